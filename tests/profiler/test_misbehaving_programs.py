"""Candidates that crash, hang or take all memory, in real worker processes beside good ones."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from adaptare.core.content_hash import canonical_json
from adaptare.devices import DeviceInfo, Feed, Program, TorchCpu
from adaptare.devices.agent_worker import AgentWorker
from adaptare.profiler import Configuration, FixedRounds, Measurement, Mode, ModelShape, Need, Workload, profile

pytestmark = pytest.mark.slow

WORKER_MODULES = Path(__file__).parents[1] / "worker_modules"
ROUNDS = 9
LIMIT_BYTES = 2**30
GOOD, CRASHING, HANGING, HUNGRY, ALSO_GOOD = range(1, 6)
ARGUMENTS: dict[int, tuple[str, dict[str, object]]] = {
    GOOD: ("constant", {"values": [1.0]}),
    CRASHING: ("crashing", {}),
    HANGING: ("hanging", {}),
    HUNGRY: ("hungry", {"chunk_bytes": 2**26}),
    ALSO_GOOD: ("torch_linear", {"width": 8}),
}


@dataclass(frozen=True)
class Given:
    """Programs that are named by the rank of their workload's adapter; none needs a merged reference."""

    by_rank: Mapping[int, tuple[str, dict[str, object]]]

    def modes(self, workload: Workload) -> tuple[Mode, ...]:
        return ("swappable",)

    def check(self, workload: Workload) -> None: ...

    def need(self, workload: Workload) -> Need:
        return Need(workload.hash, 0, 0)

    def program(self, workload: Workload) -> Program:
        rank = max(workload.configuration.by_path.values(), default=0)
        factory, arguments = self.by_rank.get(rank, ("constant", {"values": [9.0]}))
        feed = Feed(workload.hash, "{}", workload.work())
        return Program(factory, f"worker_programs:{factory}", canonical_json(arguments), (feed,))

    def merged_reference(self, workload: Workload) -> Program:
        return self.program(workload)

    def unrounded(self, workload: Workload) -> Program:
        return self.program(workload)


class Impatient:
    """The torch device, which waits for torch to be imported, but for nothing afterwards."""

    def __init__(self) -> None:
        self.openings = 0
        self._device = TorchCpu(threads=1, memory_bytes=LIMIT_BYTES)
        self.capacity_bytes = self._device.capacity_bytes

    def info(self) -> DeviceInfo:
        return self._device.info()

    @contextmanager
    def open(self) -> Iterator[AgentWorker]:
        self.openings += 1
        with self._device.open() as worker:
            assert isinstance(worker, AgentWorker)
            worker._timeout_s = 8
            yield worker


@pytest.fixture(scope="module")
def device() -> Impatient:
    return Impatient()


@pytest.fixture(scope="module")
def measured(device: Impatient, llama: ModelShape) -> dict[int, Measurement]:
    workloads = {rank: Workload(llama, Configuration.uniform(llama, rank)) for rank in ARGUMENTS}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(WORKER_MODULES), prepend=os.pathsep)
        results = profile(
            list(workloads.values()),
            reference=Workload(llama).base,
            device=device,
            stop=FixedRounds(ROUNDS),
            seed=0,
            programs=Given(ARGUMENTS),
        )
    return dict(zip(workloads, results, strict=True))


@pytest.mark.parametrize(
    ("rank", "reason"),
    [
        (CRASHING, "the worker ended during 'run' with signal SIGSEGV"),
        (HANGING, "no answer to 'run' within 8 s; the worker was stopped"),
        (HUNGRY, "out of memory: "),
    ],
)
def test_what_misbehaves_is_recorded_with_what_happened(
    measured: dict[int, Measurement], rank: int, reason: str
) -> None:
    assert measured[rank].failure.startswith(reason)
    assert not measured[rank].complete
    assert measured[rank].visits == ()


@pytest.mark.parametrize("rank", [GOOD, ALSO_GOOD])
def test_the_others_are_measured_to_the_end(measured: dict[int, Measurement], rank: int) -> None:
    assert measured[rank].complete
    assert measured[rank].stopped_by == "rounds"
    assert len(measured[rank].visits) == len(measured[rank].reference_visits) == ROUNDS


def test_only_dead_workers_are_replaced(measured: dict[int, Measurement], device: Impatient) -> None:
    """The crash and the hang each cost one."""
    assert device.openings == 3
