"""Faults: a device by ssh, by adb or in a browser that is lost while a campaign measures on it."""

import os
import runpy
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from robustness_bench import Bench, at_request, results, saved_rows
from robustness_runs import MODEL

TESTS: Final = Path(__file__).resolve().parents[1] / "tests"
# Eight adapters, which are loaded twice; the memory of the page holds two at a time.
CAMPAIGN = ("profile", MODEL, "--space", "kinds", "--rank", "0,2,4,8", "--count", "8", "-d", "4")
CAMPAIGN = (*CAMPAIGN, "--openings", "2", "--seconds", "1", "--half-width", "20%")
OPTIONS: Final = "threads=1"
REQUESTS: Final = (1, 3, 8, 21)


@dataclass(frozen=True)
class Lost:
    """A device that can be lost.

    Args:
        spelling: Its name; or why it is not here.
        cut: Loses it; called in the process of a campaign.
        back: Brings it back.
    """

    spelling: str
    cut: Callable[[], object] = int
    back: Callable[[], object] = int


@contextmanager
def by_ssh(place: Path) -> Iterator[Lost]:
    """OpenSSH's server, whose processes are killed."""
    module = runpy.run_path(str(TESTS / "devices" / "ssh_server.py"))
    if module["MISSING"]:
        yield Lost(module["MISSING"])
        return
    with module["ssh_server"](place) as server:
        server.add_python()
        os.environ["ADAPTARE_SSH_CONFIG"] = str(server.configuration)
        yield Lost(f"ssh://board/ort-cpu:{OPTIONS}", server.cut, server.start)


@contextmanager
def by_adb(place: Path) -> Iterator[Lost]:
    """Android's daemon adbd, which is killed."""
    module = runpy.run_path(str(TESTS / "devices" / "phone.py"))
    if problem := module["problem"]():
        yield Lost(problem)
        return
    with module["phone"](place) as phone:

        def start() -> None:
            phone.kill()  # of the process that is dead, nothing is left
            phone.start()

        yield Lost(f"{phone.spelling}:{OPTIONS}", lambda: os.kill(phone._adbd.pid, signal.SIGKILL), start)


@contextmanager
def in_browser(place: Path) -> Iterator[Lost]:
    """A page, whose browser is killed."""
    module = runpy.run_path(str(TESTS / "contracts" / "browser_device.py"))
    if not (module["CHROMIUM"] and module["RUNTIME"]):
        yield Lost("chromium, or ADAPTARE_ORT_WEB with the files of ONNX Runtime Web")
        return
    with module["served"]("lost", "--runtime-files", module["RUNTIME"]) as (url, _), ExitStack() as stack:
        opened: list[Any] = []

        def start() -> None:
            profile = place / f"profile-{len(opened)}"
            opened.append(stack.enter_context(module["chromium"](url, profile)))

        start()
        yield Lost(
            f"browser:lost/ort-web:{OPTIONS},memory_bytes={22 * 2**20}",
            lambda: os.kill(opened[-1].pid, signal.SIGKILL),
            start,
        )


WAYS: Final[Mapping[str, Callable[[Path], Any]]] = {"ssh": by_ssh, "adb": by_adb, "browser": in_browser}


def lost_devices(bench: Bench) -> None:
    """Every measurement that was saved before stays, and the same command goes on once the device is back."""
    os.environ["XDG_CACHE_HOME"] = str(bench.cache)  # where the server of a page leaves its address
    for way, reached in WAYS.items():
        labels = {number: f"device by {way} lost before request {number} of a campaign" for number in REQUESTS}
        if not any(map(bench.chooser.wanted, labels.values())):
            continue
        with reached(bench.place / way) as device:
            if OPTIONS not in device.spelling:
                bench.found.skipped.append(f"devices by {way}: {device.spelling}")
                continue
            for number, label in labels.items():
                if bench.wanted(label):
                    _lose(bench, label, device, number)


def _lose(bench: Bench, label: str, device: Lost, number: int) -> None:
    bench.fresh()
    words = (*CAMPAIGN, "--device", device.spelling)
    outcome = bench.run(words, lambda: at_request(number, lambda _: device.cut()))
    bench.found.judge(label, outcome)
    if outcome.code != 3:
        bench.found.unclear.append(f"{label}: exit {outcome.code}, {outcome.message}")
    bench.check(label, results(bench.place / "prepared"), None)
    kept = saved_rows(bench.work / "adaptare.db")
    device.back()
    again = bench.run(words)
    if again.code or again.traceback:
        bench.found.lost.append(f"{label}: again exit {again.code}, {again.message}")
    rows = saved_rows(bench.work / "adaptare.db")
    bench.found.lost += [f"{label}: measurement {row}" for row in kept if rows.get(row) != kept[row]]
    bench.check(f"{label}, again", results(bench.place / "prepared"), None)
