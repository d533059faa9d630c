"""Programs that crash, hang or take all memory, beside good ones: every probe isolates them in real workers."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from adaptare.core.content_hash import canonical_json
from adaptare.devices import DeviceInfo, Feed, Program
from adaptare.devices.agent_device import AgentDevice
from adaptare.devices.agent_worker import AgentWorker
from adaptare.profiler import Configuration, FixedRounds, Mode, ModelShape, Need, Workload
from adaptare.profiler.measuring.probe import Probe
from adaptare.profiler.measuring.probes import Energy, Latency, Memory, Operators, Swap
from adaptare.profiler.measuring.session import Session
from adaptare.profiler.measuring.stopping import Progress

pytestmark = pytest.mark.slow

WORKER_MODULES = Path(__file__).parents[1] / "worker_modules"
LIMIT_BYTES = 2**28
PATIENCE_S = 8.0
# Rank of the adapter of each program -> its trouble.
TROUBLES = {1: "", 2: "crash", 3: "hang", 4: "memory", 5: ""}
REASONS = {
    "crash": "the worker ended during '{}' with signal SIGSEGV",
    "hang": f"no answer to '{{}}' within {PATIENCE_S:g} s; the worker was stopped",
    "memory": "out of memory: ",
}
PROBES: dict[str, tuple[Probe, str]] = {
    "latency": (Latency(), "run"),
    "energy": (Energy(seconds=0.01, openings=3), "run"),
    "operators": (Operators(2, openings=1), "run"),
    "memory": (Memory(openings=1), "load"),
    "swap": (Swap(), "load"),
}


class Troubled:
    """Programs that are in trouble while they are loaded or run, by the rank of their adapter."""

    def __init__(self, when: str) -> None:
        self.calm = False
        self._when = when

    def modes(self, workload: Workload) -> tuple[Mode, ...]:
        return ("swappable",)

    def check(self, workload: Workload) -> None: ...

    def need(self, workload: Workload) -> Need:
        return Need(workload.hash, 0, 0)

    def disk_bytes(self, base: Workload) -> int:
        return 0

    def program(self, workload: Workload) -> Program:
        rank = max(workload.configuration.by_path.values(), default=0)
        feed = (Feed(workload.hash, "{}", workload.work()),)
        if (trouble := TROUBLES.get(rank)) and not self.calm:
            arguments = canonical_json({"how": trouble, "when": self._when})
            return Program(trouble, "worker_programs:in_trouble", arguments, feed)
        return Program("good", "worker_programs:constant", canonical_json({"values": [float(rank)]}), feed)

    def merged_reference(self, workload: Workload) -> Program:
        return self.program(workload)

    def unrounded(self, workload: Workload) -> Program:
        return self.program(workload)


class Impatient:
    """The plain runtime with a profiler, which waits for no call longer than a few seconds."""

    def __init__(self) -> None:
        self.openings = 0
        self._device = AgentDevice(
            name="profiled", runtime="profiled_runtime:ProfiledRuntime", threads=1, memory_bytes=LIMIT_BYTES
        )
        self.capacity_bytes = self._device.capacity_bytes

    def info(self) -> DeviceInfo:
        return self._device.info()

    @contextmanager
    def open(self) -> Iterator[AgentWorker]:
        self.openings += 1
        with self._device.open() as worker:
            worker._timeout_s = PATIENCE_S
            yield worker


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Impatient:
    # One watt, on a machine with or without a counter.
    monkeypatch.setattr(AgentWorker, "energy_j", lambda worker: time.monotonic())
    monkeypatch.setenv("PYTHONPATH", str(WORKER_MODULES), prepend=os.pathsep)
    return Impatient()


@pytest.mark.parametrize("quantity", PROBES)
def test_a_program_in_trouble_fails_with_its_reason_and_the_others_go_on(
    quantity: str, device: Impatient, llama: ModelShape
) -> None:
    probe, when = PROBES[quantity]
    workloads = {rank: Workload(llama, Configuration.uniform(llama, rank)) for rank in TROUBLES}
    session = Session(device, programs=Troubled(when))
    found = session.measure(list(workloads.values()), reference=Workload(llama).base, probes=[probe])
    assert [row.workload for row in found] == list(workloads.values())
    for row, trouble in zip(found, TROUBLES.values(), strict=True):
        failure = row.failure if quantity == "latency" else row.quantities[quantity].failure
        if trouble:
            assert failure.startswith(REASONS[trouble].format(when))
            assert not row.has(quantity)
        else:
            assert failure == ""
            assert row.value(quantity).middle >= 0
            assert row.has(quantity)
    if quantity == "latency":
        assert device.openings == 3, "the crash and the hang each cost one worker"


def test_trouble_of_another_probe_leaves_the_latency(device: Impatient, llama: ModelShape) -> None:
    """The program is fine until latency is measured, and crashes from then on."""
    crashing, good = (Workload(llama, Configuration.uniform(llama, rank)) for rank in (2, 1))
    programs = Troubled("load")

    class Spy(FixedRounds):
        def opening_reason(self, progress: Progress) -> str:
            programs.calm = False
            return super().opening_reason(progress)

    programs.calm = True
    session = Session(device, Spy(2), programs=programs)
    found = session.measure([crashing, good], reference=good.base, probes=[Latency(), Swap()])
    assert [row.has("latency") for row in found] == [True, True]
    assert [row.has("swap") for row in found] == [False, True]
    assert "SIGSEGV" in found[0].quantities["swap"].failure
