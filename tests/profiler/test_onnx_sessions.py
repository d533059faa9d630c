"""Sessions on the processor: programs of ONNX Runtime are checked against each other, and timed side by side."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adaptare.core import ProgramError
from adaptare.devices import Loaded, Program, Worker, ort_cpu
from adaptare.profiler import Configuration, FixedRounds, Measurement, ModelShape, Workload, profile
from adaptare.profiler.measuring import group_run
from adaptare.profiler.measuring.stopping import Progress
from adaptare.profiler.programs import equality
from adaptare.profiler.programs.onnx.programs import OnnxPrograms

pytestmark = pytest.mark.usefixtures("brief")

DOWN_PROJ = "model.layers.1.mlp.down_proj"
MIXED = {"model.layers.0.self_attn.q_proj": 2, "model.layers.0.mlp.down_proj": 6, DOWN_PROJ: 4}
CPU = ort_cpu(threads=1, timeout_s=60)
ROUNDS = 4


@pytest.fixture(scope="module")
def programs(onnx_cache: Path) -> OnnxPrograms:
    return OnnxPrograms(CPU.info(), cache=onnx_cache)


@pytest.fixture
def mixed(llama: ModelShape) -> Workload:
    return Workload(llama, Configuration.of(MIXED), past=5)


def ranked(workload: Workload, factor: int) -> Workload:
    """The same placement with other ranks."""
    return workload.with_configuration(
        Configuration.of({path: factor * rank for path, rank in workload.configuration.ranks})
    )


class Watched:
    """A device that notes what its workers load and run."""

    def __init__(self) -> None:
        self.loads: list[tuple[Program, Loaded]] = []
        self.runs: list[tuple[str, str, int]] = []
        self.broken = ""
        self.info, self.capacity_bytes = CPU.info, CPU.capacity_bytes

    @contextmanager
    def open(self) -> Iterator[Worker]:
        with CPU.open() as worker:
            yield WatchedWorker(worker, self)


class WatchedWorker:
    def __init__(self, worker: Worker, device: Watched) -> None:
        self.info, self.unload = worker.info, worker.unload
        self._worker, self._device, self._loads = worker, device, device.loads

    def load(self, program: Program) -> Loaded:
        self._loads.append((program, self._worker.load(program)))
        return self._loads[-1][1]

    def run(self, program_id: str, feed_id: str, calls: int) -> Sequence[float]:
        if feed_id == self._device.broken:
            raise ProgramError("it broke")
        self._device.runs.append((program_id, feed_id, calls))
        return self._worker.run(program_id, feed_id, calls)


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Visits of one call: what they take is not looked at."""
    monkeypatch.setattr(group_run, "VISIT_S", 0.0)
    monkeypatch.setattr(group_run, "VISIT_STEPS", 0)


def measured(
    workloads: Sequence[Workload], programs: OnnxPrograms, device: "Watched", *, openings: int = 1
) -> list[Measurement]:
    base, stop = workloads[0].base, FixedRounds(ROUNDS)
    return profile(workloads, reference=base, device=device, stop=stop, seed=0, openings=openings, programs=programs)


class Mistaken(OnnxPrograms):
    """Feeds twice the ranks to whoever asks for rank 2 on the first site."""

    def program(self, workload: Workload) -> Program:
        found = super().program(workload)
        if workload.configuration.by_path.get(next(iter(MIXED))) != 2:
            return found
        (feed,) = super().program(ranked(workload, 2)).feeds
        return replace(found, feeds=(replace(feed, name=workload.hash),))


@pytest.mark.parametrize("quantisation", ["none", "int4"])
def test_an_adapter_that_is_fed_wrongly_is_not_timed_even_where_rounded_activations_could_hide_it(
    onnx_cache: Path, mixed: Workload, quantisation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a base with trained weights: the rounding of activations exceeds what is allowed for it."""
    monkeypatch.setattr(equality, "ALLOWED_NOISE", 1e-3)
    workload = replace(mixed, quantisation=quantisation)
    right, wrong = (each(CPU.info(), cache=onnx_cache) for each in (OnnxPrograms, Mistaken))
    (found,) = measured([workload], right, Watched())
    assert (found.failure, len(found.visits)) == ("", ROUNDS)
    fed, constant = measured([workload, replace(workload, mode="static")], wrong, Watched())
    assert fed.failure.startswith("swappable and merged outputs differ by ")
    assert (fed.visits, constant.failure, len(constant.visits)) == ((), "", ROUNDS)


def test_candidates_of_one_placement_are_timed_in_one_loading(programs: OnnxPrograms, mixed: Workload) -> None:
    device, wanted = Watched(), [mixed, ranked(mixed, 2), ranked(mixed, 3), replace(mixed, mode="padded")]
    found = measured(wanted, programs, device, openings=2)
    timed = [(program, loaded) for program, loaded in device.loads if program.source == programs.program(mixed).source]
    assert [len(program.feeds) for program, _ in timed] == [4, 4]
    assert {each.load_s for each in found} == {timed[-1][1].load_s}
    assert len({tuple(visit.opening for visit in each.visits) for each in found}) == 1
    assert sum("folded" in program.source for program, _ in device.loads) == 1


def test_ranks_whose_calls_are_long_are_visited_together_after_one_that_does_not_count(
    programs: OnnxPrograms, mixed: Workload
) -> None:
    lowest = mixed.with_configuration(Configuration.of(dict.fromkeys(MIXED, 1)))
    device, wanted = Watched(), [ranked(lowest, factor) for factor in (1, 2, 3, 4, 5, 6)]
    found = measured(wanted, programs, device)
    source = programs.program(lowest).source
    (timed,) = (loaded.program_id for program, loaded in device.loads if program.source == source)
    # Six ranks go as four and two, of which the first has a call more; the base is visited three times in a round.
    own = [(feed, calls) for program_id, feed, calls in device.runs[len(wanted) + 1 :] if program_id == timed]
    assert {len(each.visits) for each in found} == {ROUNDS}
    assert {len(visit.samples_s) for each in found for visit in each.visits} == {1}
    assert sorted(calls for _, calls in own) == [1] * ROUNDS * 4 + [2] * ROUNDS * 2
    assert len(device.runs) == len(wanted) + 1 + ROUNDS * (6 + 3)
    assert len({feed for feed, calls in own if calls == 2}) > 2
    visits = [(visit.round, visit.touch_s) for each in found for visit in each.visits]
    assert sorted(visits.count(each) for each in set(visits)) == [2] * ROUNDS + [4] * ROUNDS


def test_ranks_of_a_cold_part_are_visited_one_by_one_after_a_call_of_every_copy(
    programs: OnnxPrograms, mixed: Workload
) -> None:
    lowest = replace(mixed.with_configuration(Configuration.of(dict.fromkeys(MIXED, 1))), scope="block", caches="cold")
    device, wanted = Watched(), [ranked(lowest, factor) for factor in (1, 2, 3)]
    found = measured(wanted, programs, device)
    source = programs.program(lowest).source
    (timed,) = (loaded for program, loaded in device.loads if program.source == source)
    own = [calls for program_id, _, calls in device.runs[len(wanted) + 1 :] if program_id == timed.program_id]
    assert timed.copies > 1
    assert own == [timed.copies + 1] * ROUNDS * len(wanted)
    assert {len(visit.samples_s) for each in found for visit in each.visits} == {1}


def test_the_others_go_on_if_one_of_those_visited_together_fails(programs: OnnxPrograms, mixed: Workload) -> None:
    device, wanted = Watched(), [ranked(mixed, 1), ranked(mixed, 2), ranked(mixed, 3)]

    class Breaking(FixedRounds):
        def opening_reason(self, progress: Progress) -> str:
            device.broken = wanted[1].hash if progress.rounds == 2 else device.broken
            return super().opening_reason(progress)

    found = profile(
        wanted, reference=mixed.base, device=device, stop=Breaking(ROUNDS), seed=0, openings=1, programs=programs
    )
    assert [each.failure for each in found] == ["", "it broke", ""]
    assert [len(each.visits) for each in found] == [ROUNDS, 2, ROUNDS]
    assert {len(visit.samples_s) for each in found for visit in each.visits} == {1}
