"""`adaptare overhead --tasks`: disk, memory and time for adapters of several tasks, merged and swapped."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adaptare.core import ProgramError
from adaptare.devices import (
    Device,
    Loaded,
    Program,
    SimulatedDevice,
    Worker,
    connect,
)
from adaptare.profiler import (
    Configuration,
    Measurement,
    Need,
    Programs,
    Workload,
    open_model,
    programs_for,
)
from adaptare.profiler.analysis import Interval
from adaptare.profiler.measuring.probe import Subject
from adaptare.profiler.measuring.probes import Memory, Swap
from adaptare.profiler.measuring.session import Session
from adaptare.profiler.programs.builders import SimulatedPrograms, TaskPrograms
from adaptare.profiler.workloads.workload import BYTES
from adaptare.workflows.overhead.merge_or_swap import Way, conclude, tokens_to_pay

WORDS = ("overhead", "tiny-random", "--openings", 2, "--seconds", 0.3, "-p", 4, "-d", 4, "--rank", 4)
MEGABYTE = 10**6


@pytest.fixture
def overhead(run: Callable[..., Any], model_cache: Path) -> Callable[..., Any]:
    def call(*options: object) -> Any:
        return run(*WORDS, "--cache", model_cache, *options)

    return call


@pytest.fixture(scope="module")
def workload(model_cache: Path) -> Workload:
    shape = open_model("tiny-random", cache=model_cache).shape
    return Workload(shape, Configuration.uniform(shape, 4))


def way(mode: str, **fields: Any) -> Way:
    usual: dict[str, Any] = {
        "disk_bytes": 600 * MEGABYTE,
        "memory_bytes": 0,
        "memory_of_all_bytes": 0,
        "peak_bytes": 0,
        "swap_s": 0.020,
        "phase": "decode",
        "length": 64,
        "latency_s": 0.022,
        "base_s": 0.020,
        "overhead": 0.1,
        "verdict": "slower",
    }
    usual |= fields
    intervals = {name: exactly(usual[name]) for name in ("swap_s", "latency_s") if isinstance(usual[name], float)}
    return Way(mode=mode, **usual | intervals)


def exactly(value: float) -> Interval:
    return Interval(value, value, value)


MERGED = way("merged", swap_s=1.02, latency_s=0.020, overhead=0.0, verdict="same")


def test_disk_and_memory_are_sums_of_bases_and_adapters(overhead: Callable[..., Any], workload: Workload) -> None:
    grid = ("--rank", "1,4", "--sites", "q_proj", "--sites", "all")
    found = overhead("--device", "simulated", "--tasks", 3, *grid, "--json").json["merge_or_swap"]
    adapter = BYTES["float32"] * workload.configuration.adapter_parameters(workload.shape)
    programs = programs_for(SimulatedDevice().info())
    base, held = programs.disk_bytes(workload.base), programs.need(workload.base).program_bytes
    assert (found["tasks"], found["placement"], found["rank"]) == (3, "all", 4)  # the largest adapter
    assert (found["adapter_bytes"], found["base_bytes"]) == (adapter, base)
    ways = {way["mode"]: way for way in found["ways"]}
    assert {mode: way["disk_bytes"] for mode, way in ways.items()} == {
        "swappable": base + 3 * adapter,
        "merged": 3 * base,
    }
    assert ways["swappable"]["memory_of_all_bytes"] - ways["swappable"]["memory_bytes"] == 2 * adapter
    assert (ways["merged"]["memory_bytes"], ways["merged"]["memory_of_all_bytes"]) == (held, 3 * held)
    assert {(way["phase"], way["length"]) for way in found["ways"]} == {("decode", 4)}


def loaded(workload: Workload, device: Device, programs: Programs | None = None) -> Measurement:
    session = Session(device, programs=programs)
    (found,) = session.measure([workload], reference=workload.base, probes=[Memory(openings=1), Swap()])
    return found


def test_changing_the_task_takes_loading_without_the_inputs_of_a_call(workload: Workload) -> None:
    device = SimulatedDevice()
    found = loaded(workload, device)
    assert found.value("swap").middle == pytest.approx(device.latency_s(workload.work()))
    assert [len(samples) for samples in found.quantities["swap"].rounds] == [1] * 4
    assert not found.has("peak_memory")
    assert not found.has("cold_swap")


class FedPrograms(SimulatedPrograms):
    """As of a runtime whose adapters are inputs."""

    def need(self, workload: Workload) -> Need:
        """The adapter is among the feeds."""
        return Need("one", 1000, 10 + 7 * len(workload.configuration.ranks))


class Binding:
    """A worker whose feeds take a second, two seconds and so on to bind."""

    def __init__(self, worker: Worker, loads: list[Program]) -> None:
        self._loads, self.run, self.unload, self.info = loads, worker.run, worker.unload, worker.info
        self._load = worker.load

    def load(self, program: Program) -> Loaded:
        self._loads.append(program)
        seconds = {feed.name: 1.0 + n for n, feed in enumerate(program.feeds)}
        return replace(self._load(program), bind_s=seconds)


class Forgetful(Binding):
    """A worker whose programs load a second slower from storage."""

    _forgotten = False

    def forget(self, program: Program) -> bool:
        self._forgotten = True
        return True

    def load(self, program: Program) -> Loaded:
        late_s, self._forgotten = float(self._forgotten), False
        loaded = self._load(program)
        return replace(loaded, load_s=loaded.load_s + late_s)


class DeviceOf:
    """A simulated device with workers of a class, and the programs that they loaded."""

    def __init__(self, worker: type[Binding]) -> None:
        self._worker, self._device = worker, SimulatedDevice()
        self.capacity_bytes, self.info = self._device.capacity_bytes, self._device.info
        self.loads: list[Program] = []

    @contextmanager
    def open(self) -> Iterator[Worker]:
        with self._device.open() as worker:
            yield self._worker(worker, self.loads)


def test_changing_the_task_is_feeding_another_adapter_where_that_is_an_input(workload: Workload) -> None:
    device = DeviceOf(Binding)
    found = loaded(workload, device, FedPrograms())
    own = FedPrograms().program(workload)
    assert [len(program.feeds) for program in device.loads if program.arguments == own.arguments] == [1, 2, 2, 2, 2]
    # The first feed is the task that was there before; the other takes two seconds to bind.
    assert found.value("swap").middle == pytest.approx(2.0 + SimulatedDevice().latency_s(workload.work()))


def test_a_program_from_storage_and_one_from_the_page_cache_are_told_apart(workload: Workload) -> None:
    device = DeviceOf(Forgetful)
    found = loaded(workload, device)
    call_s = SimulatedDevice().latency_s(workload.work())
    assert found.value("swap").middle == pytest.approx(call_s)
    assert found.value("cold_swap").middle == pytest.approx(1.0 + call_s)


def test_merging_pays_once_the_tokens_it_saves_make_up_for_loading() -> None:
    found = tokens_to_pay([way("swappable"), MERGED])
    assert found
    assert (found.lower, found.middle, found.upper) == pytest.approx((500, 500, 500))


def test_the_tokens_have_an_interval() -> None:
    """Of one uncertain part the ends are those of a division, and of two they are closer than both together."""
    slow = replace(MERGED, swap_s=Interval(0.92, 1.02, 1.12))
    found = tokens_to_pay([way("swappable"), slow])
    assert found
    assert (found.lower, found.upper) == pytest.approx((450, 550))
    quick = way("swappable", latency_s=Interval(0.0215, 0.022, 0.0225))
    found = tokens_to_pay([quick, MERGED])
    assert found
    assert (found.lower, found.upper) == pytest.approx((400, 1.0 / 0.0015))
    both = tokens_to_pay([quick, slow])
    assert both
    assert 450 * 0.0020 / 0.0025 < both.lower < found.lower < found.upper < both.upper < 550 * 0.0020 / 0.0015


def test_tokens_are_not_told_where_decode_may_be_as_fast() -> None:
    unsure = way("swappable", latency_s=Interval(0.0195, 0.022, 0.0245))
    found = tokens_to_pay([unsure, MERGED])
    assert found
    assert found.upper == float("inf")
    assert "measured too coarsely to tell from how many tokens" in conclude([unsure, MERGED], tasks=2, base_bytes=1)


@pytest.mark.parametrize(
    "ways",
    [
        [MERGED],
        [way("swappable", swap_s=2.0), MERGED],
        [way("swappable", latency_s=0.019), MERGED],
        [way("swappable", phase="prefill"), MERGED],
    ],
    ids=["only merged", "merging is quicker", "swapping is faster", "no decode"],
)
def test_there_is_no_such_number_where_one_of_both_is_better_throughout(ways: list[Way]) -> None:
    assert tokens_to_pay(ways) is None


def test_the_conclusion_weighs_both() -> None:
    slow = replace(MERGED, cold_swap_s=exactly(2.5))
    said = conclude([way("swappable"), slow], tasks=8, base_bytes=538 * MEGABYTE)
    assert said == (
        "merged is as fast as the base, needs 8 times 538 MB on disk and 1,020 ms per change of task, 2,500 ms from "
        "storage; swappable costs +10.0% in decode, needs 600 MB on disk in all and 20.0 ms per change; merging pays "
        "from 500 [500, 500] tokens per change of task on"
    )


@pytest.mark.parametrize(
    ("verdict", "words"), [("ambiguous", "may be as fast as the base (+0.4%)"), ("slower", "merged costs +0.4%")]
)
def test_the_conclusion_is_as_sure_as_the_verdict(verdict: str, words: str) -> None:
    unsure = replace(MERGED, verdict=verdict, overhead=0.004)
    assert words in conclude([way("swappable"), unsure], tasks=8, base_bytes=MEGABYTE)


def test_the_conclusion_warns_of_quantising_again() -> None:
    again = replace(MERGED, mode="requantised")
    assert "where quantising again may cost quality" in conclude(
        [way("static", swap_s=0.5), way("swappable"), again], tasks=2, base_bytes=MEGABYTE
    )


@pytest.mark.slow
def test_an_adapter_of_a_file_is_that_of_the_inputs(workload: Workload, model_cache: Path, tmp_path: Path) -> None:
    device = connect("ort-cpu:threads=1")
    programs = programs_for(device.info(), cache=model_cache)
    assert isinstance(programs, TaskPrograms)
    with device.open() as worker:
        expected = worker.load(programs.program(workload)).outputs[workload.hash]
        first, second = worker.load(programs.of_tasks(workload, 2, tmp_path)).outputs.values()
    assert first == pytest.approx(expected, rel=1e-6)
    assert second != pytest.approx(expected, rel=1e-3)
    found = loaded(workload, device, programs)
    assert found.value("swap").middle > 0  # as above
    assert found.has("cold_swap"), "the file is dropped from the page cache"


def test_a_way_that_cannot_be_loaded_is_told(overhead: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(probe: Memory, worker: Worker, subject: Subject) -> dict[str, list[float]]:
        if subject.workload.configuration.ranks:
            raise ProgramError("out of memory")
        return {"memory": [1.0]}

    monkeypatch.setattr(Memory, "visit", fail)
    answer = overhead("--device", "simulated", "--tasks", 2, "--json")
    assert answer.code == 3
    found = answer.json["merge_or_swap"]
    assert found["failures"] == {"swappable": "out of memory", "merged": "out of memory"}
    assert "not loaded: merged: out of memory" in answer.err


def test_tasks_need_an_adapter_that_is_there(overhead: Callable[..., Any]) -> None:
    answer = overhead("--device", "ort-cpu:threads=1", "--rank", 0, "--tasks", 2)
    assert answer.code == 2
    assert "tasks compare ways to apply an adapter; give one of rank 1 or more" in answer.err
