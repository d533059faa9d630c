"""The simulated device against its closed form, computed here by hand."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from simulated_noise import Drift, Jitter, OpeningOffset, RegimeStep, Touch, WarmUp

from adaptare.core import InputError, ProgramError, WorkerDiedError
from adaptare.devices import Feed, Program, SimulatedDevice, Work
from adaptare.devices.simulated import SimulatedNoise

PROGRAM = Program(
    "p", "m:f", "{}", (Feed("a", "{}", Work(5, 1000, 4000)), Feed("b", "{}", Work(7, 10, 4000))), weight_bytes=77
)
OTHER = replace(PROGRAM, source="m:g")


def device(**options: object) -> SimulatedDevice:
    return SimulatedDevice(launch_s=0.5, bandwidth_bytes_s=100.0, compute_flops_s=2000.0, **options)


def times(simulated: SimulatedDevice, feed: str = "a", calls: int = 3) -> list[float]:
    with simulated.open() as worker:
        return list(worker.run(worker.load(PROGRAM).program_id, feed, calls))


def test_time_is_launches_and_moving_where_memory_is_the_limit() -> None:
    assert times(device(), "a") == [5 * 0.5 + 1000 / 100] * 3


def test_time_is_launches_and_computing_where_arithmetic_is_the_limit() -> None:
    assert times(device(), "b") == [7 * 0.5 + 4000 / 2000] * 3


def test_the_clock_is_the_sum_of_all_calls() -> None:
    simulated = device()
    taken = times(simulated, "a") + times(simulated, "b")
    assert simulated.clock_s == pytest.approx(sum(taken), rel=1e-15)


def test_work_adds_up_and_multiplies_by_part() -> None:
    assert Work(1, 2, 3) * 2 + Work(10, 20, 30) == Work(12, 24, 36)


def test_loading_adds_the_expected_bytes_to_memory_of_the_size_that_was_asked_for() -> None:
    with device(free_bytes=123).open() as worker:
        assert worker.info.free_bytes == 123
        assert worker.load(PROGRAM).resident_bytes == 77


def test_the_same_seed_gives_the_same_times_and_another_seed_others() -> None:
    found = [times(device(noise=[Jitter(0.1)], seed=seed)) for seed in (5, 5, 6)]
    assert found[0] == found[1] != found[2]


def test_noises_multiply() -> None:
    class Twice:
        def factor(self, moment: object, rng: object) -> float:
            return 2.0

    assert times(device(noise=[Twice(), Twice(), Twice()])) == [8 * 12.5] * 3


def test_a_program_can_fail_while_the_worker_lives() -> None:
    with device(failures={PROGRAM.hash: "error"}).open() as worker:
        failing, other = worker.load(PROGRAM), worker.load(OTHER)
        with pytest.raises(ProgramError, match="the simulated program failed"):
            worker.run(failing.program_id, "a", 1)
        assert worker.run(other.program_id, "a", 1) == [12.5]


def test_a_program_can_take_the_worker_down() -> None:
    with device(failures={PROGRAM.hash: "crash"}).open() as worker:
        failing, other = worker.load(PROGRAM), worker.load(OTHER)
        with pytest.raises(WorkerDiedError, match="the simulated worker died"):
            worker.run(failing.program_id, "a", 1)
        with pytest.raises(WorkerDiedError, match="is dead"):
            worker.run(other.program_id, "a", 1)


def test_the_first_worker_dies_after_so_many_calls_of_all_programs_and_a_new_one_serves() -> None:
    simulated = device(dies_after_calls=4)
    with simulated.open() as worker:
        first, second = worker.load(PROGRAM), worker.load(OTHER)
        worker.run(first.program_id, "a", 3)
        worker.run(second.program_id, "a", 1)
        with pytest.raises(WorkerDiedError):
            worker.run(second.program_id, "a", 1)
    assert times(simulated, calls=5) == [12.5] * 5


def test_refuses_speeds_that_are_none() -> None:
    with pytest.raises(InputError, match="must be above 0"):
        SimulatedDevice(launch_s=0.0)


TRUE_S = 0.25
STILL = Program("p", "m:f", "{}", (Feed("a", "{}", Work(1, 0, 0)),))
ALSO_STILL = replace(STILL, source="m:g")


def disturbed(noise: SimulatedNoise) -> SimulatedDevice:
    return SimulatedDevice(launch_s=TRUE_S, noise=[noise], seed=11)


def factors(noise: SimulatedNoise, calls: int) -> NDArray[np.float64]:
    """What each call was multiplied by. Shape (calls,)."""
    with disturbed(noise).open() as worker:
        return np.array(worker.run(worker.load(STILL).program_id, "a", calls)) / TRUE_S


def test_a_regime_step_begins_at_its_time() -> None:
    assert list(factors(RegimeStep(at_s=1.0, slowdown=2.0), 7)) == [1, 1, 1, 1, 2, 2, 2]


def test_drift_compounds_on_the_clock() -> None:
    # Each call of length c = TRUE_S (1 + p t) multiplies 1 + p t by 1 + p TRUE_S.
    assert factors(Drift(per_s=0.4), 5) == pytest.approx([(1 + 0.4 * TRUE_S) ** n for n in range(5)], rel=1e-12)


def test_warm_up_fades_by_the_same_factor_each_call() -> None:
    excess = factors(WarmUp(calls=2.0, slowdown=3.0), 6) - 1
    assert excess[0] == pytest.approx(2.0, rel=1e-12)
    assert excess[1:] / excess[:-1] == pytest.approx([np.exp(-0.5)] * 5, rel=1e-12)


def test_warm_up_begins_anew_with_each_loading() -> None:
    with disturbed(WarmUp(calls=2.0, slowdown=3.0)).open() as worker:
        first = worker.run(worker.load(STILL).program_id, "a", 4)
        assert worker.run(worker.load(STILL).program_id, "a", 4) == first


def test_touch_slows_the_first_call_after_another_program() -> None:
    with disturbed(Touch(slowdown=2.0)).open() as worker:
        ids = [worker.load(STILL).program_id, worker.load(ALSO_STILL).program_id]
        found = [np.array(worker.run(ids[turn], "a", 3)) / TRUE_S for turn in (0, 1, 1, 0)]
    assert [list(row) for row in found] == [[2, 1, 1], [2, 1, 1], [1, 1, 1], [2, 1, 1]]


def opening_factor(simulated: SimulatedDevice, program: Program) -> set[float]:
    with simulated.open() as worker:
        return set(worker.run(worker.load(program).program_id, "a", 20))


def test_an_opening_offset_lasts_as_long_as_its_opening() -> None:
    simulated = disturbed(OpeningOffset(0.1))
    (first,), (second,) = opening_factor(simulated, STILL), opening_factor(simulated, STILL)
    assert first != second


def test_an_opening_offset_differs_between_programs() -> None:
    first, second = (opening_factor(disturbed(OpeningOffset(0.1)), program) for program in (STILL, ALSO_STILL))
    assert first != second
