"""The simulated device against its closed form, computed here by hand."""

from dataclasses import replace

import pytest
from simulated_noise import Jitter

from adaptare.core import InputError, ProgramError, WorkerDiedError
from adaptare.devices import Feed, Program, SimulatedDevice, Work

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


def test_loading_adds_the_expected_bytes() -> None:
    with device().open() as worker:
        assert worker.load(PROGRAM).resident_bytes == 77


def test_free_memory_is_what_was_asked_for() -> None:
    with device(free_bytes=123).open() as worker:
        assert worker.info.free_bytes == 123


def test_the_same_seed_gives_the_same_times() -> None:
    assert times(device(noise=[Jitter(0.1)], seed=5)) == times(device(noise=[Jitter(0.1)], seed=5))


def test_another_seed_gives_other_times() -> None:
    assert times(device(noise=[Jitter(0.1)], seed=5)) != times(device(noise=[Jitter(0.1)], seed=6))


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


def test_a_new_worker_serves_after_the_old_one_died() -> None:
    simulated = device(dies_after_calls=2)
    with simulated.open() as worker, pytest.raises(WorkerDiedError, match="is dead"):
        worker.run(worker.load(PROGRAM).program_id, "a", 3)
    assert times(simulated, calls=5) == [12.5] * 5


def test_the_first_worker_dies_after_so_many_calls_of_all_programs() -> None:
    with device(dies_after_calls=4).open() as worker:
        first, second = worker.load(PROGRAM), worker.load(OTHER)
        worker.run(first.program_id, "a", 3)
        worker.run(second.program_id, "a", 1)
        with pytest.raises(WorkerDiedError):
            worker.run(second.program_id, "a", 1)


@pytest.mark.parametrize("name", ["launch_s", "bandwidth_bytes_s", "compute_flops_s"])
def test_refuses_speeds_that_are_none(name: str) -> None:
    with pytest.raises(InputError, match="must be above 0"):
        SimulatedDevice(**{name: 0.0})


def test_its_numbers_take_part_in_equality() -> None:
    assert SimulatedDevice(launch_s=1e-6).info() != SimulatedDevice(launch_s=2e-6).info()
