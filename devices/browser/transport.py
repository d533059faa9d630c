"""Transport to a page that a server of this user serves, and the private files by which processes find the server."""

import contextlib
import json
import os
import re
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BufferedRWPair
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from adaptare.core import AdaptareError, DeviceError, InputError
from adaptare.core.codec import from_json, to_json
from adaptare.devices.program import ProgramFile
from adaptare.devices.transport import Link, Transport, local_environment

RUNTIME = "onnxruntime-web"
# Time for a page to be opened again after it was closed.
WAIT_S = 20.0
WAIT_STEP_S = 0.2
NAMES = re.compile(r"[A-Za-z0-9_-]{1,40}")
ANSWERED_S = 10.0


@dataclass(frozen=True)
class ServerState:
    """Address of a running server, and the secret that it asks other processes for.

    Args:
        url: Address of its page, for messages.
        port: Port on loopback for processes of this host.
    """

    url: str
    port: int
    secret: str

    @contextlib.contextmanager
    def connected(self, operation: str, *, timeout_s: float | None = None, **content: str) -> Iterator[BufferedRWPair]:
        """A connection on which the operation was requested. Raises `OSError` if the server does not run."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=ANSWERED_S) as connection:
            connection.settimeout(timeout_s)
            with connection.makefile("rwb") as stream:
                stream.write(json.dumps({"secret": self.secret, "op": operation, **content}).encode() + b"\n")
                stream.flush()
                yield stream

    def ask(self, operation: str, **content: str) -> dict[str, Any]:
        """Reply of the server to one request. Raises `DeviceError` if there is none."""
        try:
            with self.connected(operation, timeout_s=ANSWERED_S, **content) as stream:
                reply: dict[str, Any] = json.loads(stream.readline())
                return reply
        except (OSError, ValueError) as error:
            raise DeviceError(f"the server of {self.url} does not answer; restart it") from error


def state_file(name: str) -> Path:
    """File of the server with this name. Raises `InputError` if it is no name of a page."""
    if not NAMES.fullmatch(name):
        raise InputError(f"a page is named by up to 40 letters, digits, - and _, not {name!r}")
    return folder() / f"{name}.json"


def folder() -> Path:
    """Folder of all state files."""
    return user_cache_path("adaptare") / "browser"


def read_state(name: str) -> ServerState:
    """State of the server with this name. Raises `DeviceError` if none was started; see `state_file`."""
    file = state_file(name)
    try:
        return from_json(ServerState, json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise DeviceError(f"no page named {name!r} is served; start its server (serve)") from error


@contextlib.contextmanager
def published(name: str, state: ServerState) -> Iterator[None]:
    """Writes the state, readable by this user only, and removes it at the end."""
    file = state_file(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(f".{os.getpid()}")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as opened:
        json.dump(to_json(state), opened)
    fresh.replace(file)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


class BrowserTransport(Transport):
    """Reaches the page of the server named NAME, spelled `browser:NAME`."""

    usual = "ort-web"

    def __init__(self, target: str) -> None:
        state_file(target)
        self._target = target
        self.name = f"browser:{target}"

    @staticmethod
    def discover() -> Sequence[str]:
        names = []
        for file in sorted(folder().glob("*.json")):
            with contextlib.suppress(AdaptareError):
                if read_state(file.stem).ask("status")["open"]:
                    names.append(f"browser:{file.stem}")
        return names

    @contextlib.contextmanager
    def linked(self, runtime: str) -> Iterator[Link]:
        """Waits a while for a page to be open."""
        if runtime != RUNTIME:
            raise InputError(f"pages run ort-web only; spell the device {self.name}, or {self.name}/{self.usual}")
        state = read_state(self._target)
        deadline = time.monotonic() + WAIT_S
        while not state.ask("status")["open"]:
            if time.monotonic() > deadline:
                raise DeviceError(f"no browser has opened the page {self.name}; its address is {state.url}")
            time.sleep(WAIT_STEP_S)

        def bring(file: ProgramFile) -> None:
            if not file.path.is_file():
                raise FileNotFoundError(f"no file {str(file.path)!r}")
            state.ask("file", digest=file.digest, path=str(file.path.resolve()))

        yield Link([sys.executable, "-m", "adaptare.devices.browser.bridge", self._target], bring, local_environment())
