"""Several devices in one table: who runs at the same time, and what is left when one is lost."""

import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from adaptare.console import feedback_of
from adaptare.core import DeviceError, InputError
from adaptare.core.progress import SILENT
from adaptare.profiler import Store
from adaptare.views.overhead import exit_code_of_several
from adaptare.workflows.overhead import side_by_side as module
from adaptare.workflows.overhead.overhead import OverheadRequest
from adaptare.workflows.overhead.side_by_side import DeviceResult, side_by_side

UNREACHABLE = "ssh://127.0.0.1:1/ort-cpu"
REQUEST = OverheadRequest("tiny-random")
WORDS = ("overhead", "tiny-random", "--seconds", 0.1, "-p", 0, "--rank", "2,4")


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
    """Says on which machine a device is."""
    return lambda known: monkeypatch.setattr(module, "_machine_of", known.__getitem__)


def test_devices_of_one_machine_share_a_table(run: Callable[..., Any], model_cache: Any) -> None:
    words = (*WORDS[:4], "-p", 8, "-n", 4, "--rank", "2", "--cache", model_cache)
    words = (*words, "--device", "simulated", "--device", "simulated:launch_s=1e-4")
    shown, told = run(*words), run(*words, "--json")
    assert shown.code == told.code == 0, shown.err
    for heading in ("A: ms", "A: overhead", "B: ms", "B: overhead", "A: Requests of 8", "B: Requests of 8"):
        assert heading in shown.out
    assert "A: tiny-random on simulated: adapters on" in shown.out
    first, second = told.json["devices"]
    assert (first["spelling"], first["problem"]) == ("simulated", "")
    assert second["report"]["device"] == "simulated:launch_s=0.0001"
    one, other = first["report"]["rows"], second["report"]["rows"]
    assert [row["rank"] for row in one] == [row["rank"] for row in other]
    assert all(slow["base_s"] > fast["base_s"] for fast, slow in zip(one, other, strict=True))
    assert "simulated:launch_s=1e-4: measuring decode" in told.err


@pytest.mark.slow
def test_other_machines_measure_in_processes_of_their_own_into_one_store(
    run: Callable[..., Any], model_cache: Any, machines: Any
) -> None:
    names = [f"simulated:launch_s={number}e-06" for number in (1, 3, 4)]
    machines(dict(zip(names, ("", "board", "phone"), strict=True)))
    devices = [word for name in names for word in ("--device", name)]
    answer = run(*WORDS, "--cache", model_cache, *devices, "--json")
    assert answer.code == 0, answer.err
    assert [each["spelling"] for each in answer.json["devices"]] == names
    with closing(Store("adaptare.db")) as store:
        assert {each.device.device for each in store.measurements()} == set(names)


class Threads(ThreadPoolExecutor):
    """In place of processes, to which these functions cannot be sent."""

    def __init__(self, workers: int, mp_context: object) -> None:
        super().__init__(workers)


def test_machines_run_at_the_same_time_but_never_two_devices_of_one(
    machines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ProcessPoolExecutor", Threads)
    places = ("board", "", "phone", "board", module.machine_here())
    known = {f"simulated:seed={number}": place for number, place in enumerate(places, 1)}
    machines(known)
    both, order = threading.Barrier(2), list[str]()
    alone = {place: threading.Lock() for place in places}

    def measure(request: OverheadRequest, *, feedback: object) -> Any:
        device = str(request.device)
        machine = known[device]
        assert alone[machine].acquire(blocking=False)
        if device in ("simulated:seed=1", "simulated:seed=3"):
            both.wait(timeout=30)  # breaks if they run one after the other
        order.append(device)
        alone[machine].release()
        raise DeviceError(f"{device} is gone")

    monkeypatch.setattr(module, "measure_overhead", measure)
    found = side_by_side(REQUEST, list(known), feedback=lambda name: SILENT)
    assert found.devices == [DeviceResult(name, problem=f"{name} is gone") for name in known]
    assert order[:2] == ["simulated:seed=2", "simulated:seed=5"]  # those of this machine, while nothing else runs
    assert exit_code_of_several(found) == 3


def test_a_device_tells_its_machine() -> None:
    assert module._machine_of("torch-cpu:threads=1") == module.machine_here()
    assert module._machine_of("simulated") == ""


def test_a_lost_device_leaves_the_others_running_and_is_resumed(run: Callable[..., Any], model_cache: Any) -> None:
    words = (*WORDS, "--cache", model_cache, "--device", "simulated", "--device", UNREACHABLE)
    answer = run(*words, "--report", "page.html")
    assert answer.code == 3
    assert "Side by side" in Path("page.html").read_text(encoding="utf-8")
    assert "A: overhead" in answer.out
    remarks = [line for line in answer.err.splitlines() if "would take" in line or "next, " in line]
    assert [line for line in remarks if not line.startswith("A: ")] == []
    assert "B: overhead" not in answer.out
    assert f"B: {UNREACHABLE}: " in answer.err
    assert "the same command with --resume measures only what is missing" in answer.err
    told = run(*words, "--resume", "--json")
    assert told.code == 3
    kept, lost = told.json["devices"]
    assert (len(kept["report"]["rows"]), lost["spelling"], lost["report"]) == (3, UNREACHABLE, None)
    assert lost["problem"]
    with closing(Store("adaptare.db")) as store:
        assert len({each.session for each in store.measurements()}) == 1


def test_resuming_takes_whole_phases_only(run: Callable[..., Any], model_cache: Any) -> None:
    words = ("overhead", "tiny-random", "--seconds", 0.1, "--cache", model_cache, "--device", "simulated")

    def sessions() -> int:
        with closing(Store("adaptare.db")) as store:
            return len({each.session for each in store.measurements()})

    first = run(*words, "--rank", 2, "-p", 0, "--json")
    assert sessions() == 1
    again = run(*words, "--rank", 2, "-p", 0, "--resume", "--json")
    assert (again.json["rows"], sessions()) == (first.json["rows"], 1)
    both = run(*words, "--rank", 2, "-p", 8, "--resume", "--json")
    assert sessions() == 2
    assert [row for row in both.json["rows"] if row["phase"] == "decode"] == first.json["rows"]
    more = run(*words, "--rank", "2,4", "-p", 0, "--resume", "--json")
    assert sessions() == 3
    assert {row["rank"] for row in more.json["rows"]} == {2, 4}


@pytest.mark.parametrize(
    ("devices", "words"),
    [
        (["simulated", "simulated"], "each device can be measured once; one came twice"),
        (["simulated", "abacus"], "unknown device 'abacus'"),
        ([f"simulated:seed={number}" for number in range(27)], "at most 26 devices are measured side by side, not 27"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(devices: Sequence[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        side_by_side(REQUEST, devices, feedback=feedback_of)


def test_a_figure_is_of_one_device(run: Callable[..., Any]) -> None:
    answer = run(*WORDS, "--device", "simulated", "--device", "simulated:seed=1", "--figure", "a.png", "--json")
    assert answer.code == 2
    assert json.loads(answer.out)["error"] == "--figure draws one device; give one, or leave the figure out"
