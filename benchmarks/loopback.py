"""Devices that this machine is for itself: real servers on loopback, started for a benchmark and stopped at its end.

An ssh server with keys of its own, adbd in a network of its own, headless Chromium: those that the tests use. Each
gives the beginning of a device's spelling, which a runtime and its options complete.
"""

import os
import runpy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent.parent / "tests"


class AbsentError(Exception):
    """A service cannot be had here; the message says why."""


def helpers(file: str) -> dict[str, Any]:
    """Names of a module among the tests."""
    return runpy.run_path(str(TESTS / file))


@contextmanager
def here(folder: Path) -> Iterator[str]:
    """This machine, without any service."""
    yield ""


@contextmanager
def by_ssh(folder: Path) -> Iterator[str]:
    """An ssh server that runs both agents; the Python there has no adaptare."""
    ssh, programs = helpers("devices/ssh_server.py"), helpers("devices/phone.py")["PROGRAMS"]
    if ssh["MISSING"]:
        raise AbsentError(f"{ssh['MISSING']}; apt-get install openssh-server")
    with ssh["ssh_server"](folder / "board", programs={*ssh["PROGRAMS"], *programs}) as server:
        server.add_python()
        with _variable("ADAPTARE_SSH_CONFIG", str(server.configuration)):
            yield f"ssh://{ssh['ALIAS']}/"


@contextmanager
def by_adb(folder: Path) -> Iterator[str]:
    """The agent in C behind adbd, on the first processor."""
    adb = helpers("devices/phone.py")
    if problem := adb["problem"]():
        raise AbsentError(f"{problem}; it takes root, and: apt-get install adb adbd iproute2")
    with adb["phone"](folder / "phone") as phone:
        yield f"adb:{phone.serial}/"


@contextmanager
def in_page(folder: Path) -> Iterator[str]:
    """A page in headless Chromium."""
    browser = helpers("contracts/browser_device.py")
    if browser["CHROMIUM"] is None:
        raise AbsentError("chromium is not installed; apt-get install chromium")
    if not browser["RUNTIME"]:
        raise AbsentError("ADAPTARE_ORT_WEB names no folder of an unpacked `npm pack onnxruntime-web@1.30.0`")
    with browser["opened"]("benchmark", folder):
        yield "browser:benchmark/"


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    """An environment variable of this process and of those that it starts."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
