from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest
from simulated_noise import Bursts, Jitter, RegimeStep, Touch, WarmUp

from adaptare.core import DeviceError, InputError, ProgramError
from adaptare.devices import Loaded, Program, SimulatedDevice, Worker, WorkerInfo
from adaptare.devices.simulated import SimulatedWorker
from adaptare.profiler import Configuration, FixedRounds, Measurement, ModelShape, Workload, profile
from adaptare.profiler.measuring.group_run import reference_visits
from adaptare.profiler.measuring.session import Session
from adaptare.profiler.measuring.stopping import Progress
from adaptare.profiler.programs.builders import SimulatedPrograms


def workloads(shape: ModelShape, ranks: Sequence[int] = (1, 4, 8)) -> list[Workload]:
    return [Workload(shape, Configuration.uniform(shape, rank)) for rank in ranks]


def measured(
    shape: ModelShape, device: SimulatedDevice, *, rounds: int = 12, openings: int = 1, seed: int = 0
) -> list[Measurement]:
    base = Workload(shape).base
    return profile(
        workloads(shape), reference=base, device=device, stop=FixedRounds(rounds), seed=seed, openings=openings
    )


def truth(device: SimulatedDevice, workload: Workload) -> float:
    return device.latency_s(workload.work())


def test_without_noise_every_latency_is_the_closed_form(llama: ModelShape) -> None:
    device = SimulatedDevice()
    for each in measured(llama, device):
        assert each.latency_s == pytest.approx(truth(device, each.workload), rel=1e-12)


def test_ratios_survive_a_regime_step_bursts_and_a_warm_up(llama: ModelShape) -> None:
    noise = [RegimeStep(at_s=0.5, slowdown=1.4), Bursts(share=0.1, slowdown=3.0), WarmUp(calls=3, slowdown=4.0)]
    device = SimulatedDevice(noise=[*noise, Jitter(0.005)])
    for each in measured(llama, device, rounds=30):
        ratio = truth(device, each.workload) / truth(device, each.reference)
        assert each.ratio.middle == pytest.approx(ratio, rel=0.005)


def test_the_first_call_of_a_visit_is_kept_apart(llama: ModelShape) -> None:
    device = SimulatedDevice(noise=[Touch(slowdown=2.0)])
    for each in measured(llama, device):
        true_s = truth(device, each.workload)
        assert each.latency_s == pytest.approx(true_s, rel=1e-12)
        assert {round(visit.touch_s / true_s) for visit in each.visits} <= {1, 2}
        assert 2 in {round(visit.touch_s / true_s) for visit in each.visits}


def test_a_call_of_every_copy_is_kept_apart(llama: ModelShape, monkeypatch: pytest.MonkeyPatch) -> None:
    load, run, copies = SimulatedWorker.load, SimulatedWorker.run, 3
    usual = measured(llama, SimulatedDevice())

    def loaded(worker: SimulatedWorker, program: Program) -> Loaded:
        return replace(load(worker, program), copies=copies)

    def slow_at_first(worker: SimulatedWorker, program_id: str, feed_id: str, calls: int) -> list[float]:
        return [9.0] * copies + list(run(worker, program_id, feed_id, calls - copies))

    monkeypatch.setattr(SimulatedWorker, "load", loaded)
    monkeypatch.setattr(SimulatedWorker, "run", slow_at_first)
    for each, whole in zip(measured(llama, SimulatedDevice()), usual, strict=True):
        assert each.latency_s == pytest.approx(whole.latency_s, rel=1e-12)
        assert {visit.touch_s for visit in each.visits} == {9.0}
        assert len(each.visits[0].samples_s) == len(whole.visits[0].samples_s)


def test_every_sample_of_every_round_is_kept(llama: ModelShape) -> None:
    for each in measured(llama, SimulatedDevice(), rounds=9, openings=2):
        assert each.openings.tolist() == [0] * 9 + [1] * 9
        assert [visit.round for visit in each.visits] == [visit.round for visit in each.reference_visits]
        assert len(each.visits) == 18
        assert all(len(visit.samples_s) == len(each.visits[0].samples_s) >= 1 for visit in each.visits)
        assert len(each.warmup_s) == 2 * 2


def test_a_visit_lasts_many_steps_of_the_workers_clock(llama: ModelShape, monkeypatch: pytest.MonkeyPatch) -> None:
    fine, info = measured(llama, SimulatedDevice())[0], WorkerInfo(2**33, processors=(3,), timer_step_s=1e-3)
    monkeypatch.setattr(SimulatedWorker, "info", info)
    coarse = measured(llama, SimulatedDevice())[0]
    assert sum(fine.visits[0].samples_s) < 0.1 < 0.2 <= sum(coarse.visits[0].samples_s)
    told = coarse.environment["worker"]
    assert (told["free_bytes"], told["processors"], told["timer_step_s"]) == (2**33, [3], 1e-3)


def test_the_order_differs_between_rounds_and_seeds(llama: ModelShape) -> None:
    """Only the order can tell two seeds apart when noise grows with the virtual clock."""
    first, again, other = (
        measured(llama, SimulatedDevice(noise=[Jitter(0.01)], seed=3), seed=seed) for seed in (0, 0, 1)
    )
    assert [each.visits for each in first] == [each.visits for each in again]
    assert [each.visits for each in first] != [each.visits for each in other]


def test_a_reference_of_many_is_visited_about_as_often_as_the_square_root_of_them_and_has_a_middle() -> None:
    found = {candidates: reference_visits(candidates) for candidates in (1, 3, 4, 15, 16, 32, 100)}
    assert found == {1: 1, 3: 1, 4: 3, 15: 3, 16: 5, 32: 5, 100: 11}


@pytest.mark.parametrize(("trouble", "failure"), [("error", "the simulated program failed"), ("crash", "died")])
def test_a_candidate_in_trouble_is_recorded_and_the_others_go_on(llama: ModelShape, trouble: str, failure: str) -> None:
    bad = workloads(llama)[1]
    device = SimulatedDevice(failures={SimulatedPrograms().program(bad).hash: trouble})
    first, second, third = measured(llama, device, rounds=10)
    assert failure in second.failure
    assert [each.complete for each in (first, second, third)] == [True, False, True]
    assert [len(each.visits) for each in (first, third)] == [10, 10]


def test_a_worker_that_dies_by_itself_is_replaced(llama: ModelShape) -> None:
    device = SimulatedDevice(dies_after_calls=3000)
    results = measured(llama, device, rounds=15)
    failed = [each for each in results if each.failure]
    assert len(failed) <= 1
    for each in results:
        if not each.failure:
            assert len(each.visits) == 15
            assert len(set(each.openings.tolist())) == 2


@pytest.mark.parametrize("trouble", ["error", "crash"])
def test_a_reference_that_does_not_run_ends_the_session(llama: ModelShape, trouble: str) -> None:
    base = Workload(llama).base
    device = SimulatedDevice(failures={SimulatedPrograms().program(base).hash: trouble})
    with pytest.raises(DeviceError, match="the reference does not run on simulated: "):
        measured(llama, device)


def test_a_reference_that_finds_no_memory_left_is_loaded_before_the_others(llama: ModelShape) -> None:
    """Whoever is loaded last may find none; then it is the reference's turn first."""
    device = Crowded(SimulatedPrograms().program(Workload(llama).base))
    results = profile(
        workloads(llama), reference=Workload(llama).base, device=device, stop=FixedRounds(8), seed=0, openings=4
    )
    assert device.refused == 1
    assert [each.failure for each in results] == [""] * 3


class Crowded:
    """Loads one program only while it holds no other."""

    def __init__(self, large: Program) -> None:
        self._device, self._large, self.refused = SimulatedDevice(), large, 0
        self.info, self.capacity_bytes = self._device.info, self._device.capacity_bytes

    @contextmanager
    def open(self) -> Iterator[Worker]:
        with self._device.open() as worker:
            plain, loaded = worker.load, list[str]()

            def load(program: Program) -> Loaded:
                if program == self._large and loaded:
                    self.refused += 1
                    raise ProgramError("MemoryError: no memory left")
                loaded.append(program.hash)
                return plain(program)

            worker.load = load  # type: ignore[method-assign]
            yield worker


def test_a_device_that_is_lost_leaves_the_rounds_before(llama: ModelShape) -> None:
    class Lost(FixedRounds):
        def opening_reason(self, progress: Progress) -> str:
            if progress.rounds == 5:
                raise DeviceError("the connection was refused")
            return super().opening_reason(progress)

    groups = Session(SimulatedDevice(), Lost(8), seed=0).groups(workloads(llama), reference=Workload(llama).base)
    kept = next(groups)
    assert [(len(each.visits), each.stopped_by, each.complete) for each in kept] == [(5, "interrupted", False)] * 3
    with pytest.raises(DeviceError, match="refused"):
        next(groups)


def test_a_device_that_changes_leaves_the_openings_before(llama: ModelShape) -> None:
    device = SimulatedDevice()

    class Replaced(FixedRounds):
        def opening_reason(self, progress: Progress) -> str:
            reason = super().opening_reason(progress)
            device.launch_s = 5e-6 if reason else device.launch_s
            return reason

    session = Session(device, Replaced(8), openings=2)
    groups = session.groups(workloads(llama), reference=Workload(llama).base)
    assert [(each.openings.tolist(), each.stopped_by) for each in next(groups)] == [([0] * 8, "interrupted")] * 3
    with pytest.raises(
        DeviceError, match=r"changed from simulated \(.*launch_s=2e-06\) to .*launch_s=5e-06\); measure"
    ):
        next(groups)


def test_the_last_candidate_may_fail_at_any_round(llama: ModelShape) -> None:
    bad = workloads(llama)[:1]
    key = SimulatedPrograms().program(bad[0]).hash
    for rounds in (8, 9):
        device = SimulatedDevice()

        class Fuse(FixedRounds):
            def opening_reason(self, progress: Progress, *, device: SimulatedDevice = device) -> str:
                if progress.rounds == self.rounds - 1:
                    device.failures[key] = "error"
                return ""

        each = profile(bad, reference=Workload(llama).base, device=device, stop=Fuse(rounds), seed=0)[0]
        assert each.failure == "the simulated program failed"
        assert len(each.visits) == rounds - 1


def test_the_rule_is_told_how_far_the_group_is(llama: ModelShape) -> None:
    seen: list[Progress] = []

    class Spy(FixedRounds):
        def opening_reason(self, progress: Progress) -> str:
            seen.append(progress)
            return super().opening_reason(progress)

    base = Workload(llama).base
    profile(workloads(llama), reference=base, device=SimulatedDevice(), stop=Spy(4), seed=0, openings=2)
    assert [(progress.opening, progress.rounds) for progress in seen] == [(o, r) for o in (0, 1) for r in (1, 2, 3, 4)]
    assert {progress.candidates for progress in seen} == {3}
    assert [progress.half_width < 1 for progress in seen] == [False] * 4 + [True] * 4


def test_the_measurements_are_seen_after_every_opening(llama: ModelShape) -> None:
    seen: list[Sequence[Measurement]] = []
    session = Session(SimulatedDevice(noise=[Jitter(0.01)]), FixedRounds(8), seed=0, openings=3)
    (found,) = session.groups(workloads(llama), reference=Workload(llama).base, seen=seen.append)
    assert [len(partial[0].visits) for partial in seen] == [8, 16, 24]
    assert [partial[0].stopped_by for partial in seen] == ["", "", "openings"]
    assert [partial[0].too_few_openings for partial in seen] == [1, 2, 3]
    assert seen[-1] == found


@pytest.mark.parametrize(
    ("ranks", "openings", "message"),
    [((), 1, "at least one workload"), ((4,), 0, "openings"), ((4, 4), 1, "each workload once; one came twice")],
)
def test_refuses_nonsense(llama: ModelShape, ranks: tuple[int, ...], openings: int, message: str) -> None:
    base = Workload(llama).base
    with pytest.raises(InputError, match=message):
        profile(
            workloads(llama, ranks),
            reference=base,
            device=SimulatedDevice(),
            stop=FixedRounds(8),
            seed=0,
            openings=openings,
        )
