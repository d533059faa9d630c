"""Sessions of several groups, because memory does not hold all candidates at once."""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from simulated_noise import WarmUp

from adaptare.core import DeviceError, InputError, ProgramError, StorageError
from adaptare.devices import Loaded, Program, SimulatedDevice
from adaptare.devices.simulated import SimulatedWorker
from adaptare.profiler import Configuration, FixedRounds, Measurement, Mode, ModelShape, Workload, profile
from adaptare.profiler.measuring.probes import Swap
from adaptare.profiler.measuring.session import Session
from adaptare.profiler.measuring.stopping import Progress
from adaptare.profiler.programs.builders import SimulatedPrograms


def workloads(shape: ModelShape, ranks: Sequence[int] = (1, 4, 8)) -> list[Workload]:
    return [Workload(shape, Configuration.uniform(shape, rank)) for rank in ranks]


def test_groups_fit_into_half_of_the_free_memory(llama: ModelShape) -> None:
    candidates = [workload.merged for workload in workloads(llama, (1, 2, 3, 4, 5))]
    programs, reference = SimulatedPrograms(), Workload(llama).base
    two = programs.need(reference).total_bytes + 2 * programs.need(candidates[0]).total_bytes
    device = SimulatedDevice(free_bytes=2 * two)
    groups = list(Session(device, FixedRounds(8), seed=0).groups(candidates, reference=reference))
    assert [len(group) for group in groups] == [2, 2, 1]
    assert len({each.session for group in groups for each in group}) == 1
    rounds = [each.visits[0].round for each in itertools.chain(*groups)]
    assert rounds == [rounds[0], rounds[0], rounds[2], rounds[2], rounds[4]]


def test_a_candidate_that_cannot_fit_is_refused_before_anything_runs(llama: ModelShape) -> None:
    with pytest.raises(InputError, match="half of the free memory"):
        profile(
            workloads(llama),
            reference=Workload(llama).base,
            device=SimulatedDevice(free_bytes=1000),
            stop=FixedRounds(8),
            seed=0,
        )


def ranks_of_groups(shape: ModelShape, ranks: Sequence[Sequence[int]]) -> tuple[list[Workload], int]:
    """Workloads, and the free memory that makes groups of as many as there are in each part."""
    every = workloads(shape, tuple(rank for part in ranks for rank in part))
    programs = SimulatedPrograms()
    largest = max(programs.need(each).total_bytes for each in every)
    return every, 2 * (programs.need(Workload(shape).base).total_bytes + len(ranks[0]) * largest)


def test_after_an_interruption_no_group_is_begun(llama: ModelShape) -> None:
    class Interrupted(FixedRounds):
        def opening_reason(self, progress: Progress) -> str:
            return "interrupted" if progress.rounds == 3 else ""

    every, free_bytes = ranks_of_groups(llama, [(1, 2), (3, 4)])
    device = SimulatedDevice(free_bytes=free_bytes)
    found = profile(every, reference=Workload(llama).base, device=device, stop=Interrupted(8), seed=0)
    assert [each.workload for each in found] == every[:2]
    assert {each.stopped_by for each in found} == {"interrupted"}


def test_a_group_in_which_everything_failed_calibrates_nothing(
    llama: ModelShape, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device is three times as slow until it is warm, which is all that the first group sees of it."""
    every, free_bytes = ranks_of_groups(llama, [(1, 2), (3, 4)])
    device = SimulatedDevice(free_bytes=free_bytes, noise=[WarmUp(50, 3.0)])
    programs = {SimulatedPrograms().program(each).hash for each in every[:2]}
    run, called = SimulatedWorker.run, list[str]()

    def fail_in_the_first_visit(worker: SimulatedWorker, program_id: str, feed: str, calls: int) -> Sequence[float]:
        called.append(program_id.partition("-")[0])
        if called[-1] in programs and called.count(called[-1]) > 1:
            raise ProgramError("fails in its first visit")
        return run(worker, program_id, feed, calls)

    monkeypatch.setattr(SimulatedWorker, "run", fail_in_the_first_visit)
    found = profile(every, reference=Workload(llama).base, device=device, stop=FixedRounds(20), seed=0)
    assert [bool(each.failure) for each in found] == [True, True, False, False]
    assert found[-1].reference_s == pytest.approx(device.latency_s(Workload(llama).base.work()), rel=0.05)


def test_a_cache_that_is_lost_leaves_measurements_to_be_finished(llama: ModelShape) -> None:
    class Emptied(SimulatedPrograms):
        asked = 0

        def program(self, workload: Workload) -> Program:
            self.asked += 1
            if self.asked > 12:
                raise StorageError("the cache was emptied")
            return super().program(workload)

    session, found = (
        Session(SimulatedDevice(), FixedRounds(8, openings=8), seed=0, programs=Emptied()),
        list[Measurement](),
    )
    groups = (each for group in session.groups(workloads(llama), reference=Workload(llama).base) for each in group)
    with pytest.raises(StorageError, match="emptied"):
        found.extend(groups)
    assert [(each.opening_count() > 0, each.complete) for each in found] == [(True, False)] * 3


def test_the_one_that_breaks_a_shared_program_is_found_by_halves(
    llama: ModelShape, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = workloads(llama, range(1, 17))

    class Sharing(SimulatedPrograms):
        def program(self, workload: Workload) -> Program:
            if workload not in every:
                return super().program(workload)
            return replace(super().program(every[0]), feeds=super().program(workload).feeds)

    load, copies = SimulatedWorker.load, Counter[SimulatedWorker]()

    def broken(worker: SimulatedWorker, program: Program) -> Loaded:
        if every[5].hash in {feed.name for feed in program.feeds}:
            raise ProgramError("its inputs are broken")
        copies[worker] += len(program.feeds) > 0 and program.name == Sharing().program(every[0]).name
        return load(worker, program)

    monkeypatch.setattr(SimulatedWorker, "load", broken)
    found = profile(
        every, reference=Workload(llama).base, device=SimulatedDevice(), stop=FixedRounds(8), seed=0, programs=Sharing()
    )
    assert [each.workload for each in found if each.failure] == [every[5]]
    assert 1 < max(copies.values()) <= 5  # and not one for each of 16


class Refusing(SimulatedPrograms):
    """Cannot build the programs of one workload."""

    def __init__(self, refused: Workload) -> None:
        super().__init__()
        self.refused = refused

    def program(self, workload: Workload) -> Program:
        if workload == self.refused:
            raise ProgramError("the converter refused it")
        return super().program(workload)


@pytest.mark.parametrize("mode", ["swappable", "merged"])
def test_a_program_that_cannot_be_built_fails_alone(llama: ModelShape, mode: Mode) -> None:
    """Its own, or the merged one that it is compared with; of latency, and of another probe."""
    good, bad, other = workloads(llama)
    session = Session(SimulatedDevice(), FixedRounds(8), programs=Refusing(replace(bad, mode=mode)))
    found = session.measure([good, bad, other], reference=good.base)
    assert [row.failure for row in found] == ["", "the converter refused it", ""]
    assert [len(row.visits) for row in found] == [8, 0, 8]
    if mode == "swappable":
        found = session.measure([good, bad, other], reference=good.base, probes=[Swap()])
        assert [row.quantities["swap"].failure for row in found] == ["", "the converter refused it", ""]


def test_a_reference_that_cannot_be_built_ends_the_session(llama: ModelShape) -> None:
    base = Workload(llama).base
    session = Session(SimulatedDevice(), FixedRounds(8), programs=Refusing(base))
    with pytest.raises(DeviceError, match="the reference does not run on simulated: the converter refused it"):
        session.measure(workloads(llama), reference=base)
