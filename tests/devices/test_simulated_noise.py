"""Each disturbance alone, against its formula."""

import numpy as np
import pytest
from numpy.typing import NDArray
from simulated_noise import Autocorrelated, Bursts, Drift, Jitter, OpeningOffset, RegimeStep, Touch, WarmUp

from adaptare.devices import Feed, Program, SimulatedDevice, Work
from adaptare.devices.simulated import SimulatedNoise

TRUE_S = 0.25
PROGRAM = Program("p", "m:f", "{}", (Feed("a", "{}", Work(1, 0, 0)),))
OTHER = Program("q", "m:g", "{}", PROGRAM.feeds)


def device(noise: SimulatedNoise) -> SimulatedDevice:
    return SimulatedDevice(launch_s=TRUE_S, noise=[noise], seed=11)


def factors(noise: SimulatedNoise, calls: int) -> NDArray[np.float64]:
    """What each call was multiplied by. Shape (calls,)."""
    with device(noise).open() as worker:
        return np.array(worker.run(worker.load(PROGRAM).program_id, "a", calls)) / TRUE_S


def test_jitter_has_its_standard_deviation_around_a_median_of_1() -> None:
    logs = np.log(factors(Jitter(0.1), 20_000))
    assert logs.mean() == pytest.approx(0, abs=4 * 0.1 / np.sqrt(20_000))
    assert logs.std() == pytest.approx(0.1, rel=0.02)


def test_jitter_has_no_memory() -> None:
    logs = np.log(factors(Jitter(0.1), 20_000))
    assert np.corrcoef(logs[1:], logs[:-1])[0, 1] == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize("rho", [0.5, 0.9])
def test_autocorrelated_noise_decays_as_powers_of_its_correlation(rho: float) -> None:
    logs = np.log(factors(Autocorrelated(0.1, rho), 40_000))
    found = [np.corrcoef(logs[lag:], logs[:-lag])[0, 1] for lag in (1, 2, 3)]
    assert found == pytest.approx([rho, rho**2, rho**3], abs=0.04)


def test_autocorrelated_noise_has_its_standard_deviation() -> None:
    assert np.log(factors(Autocorrelated(0.1, 0.8), 40_000)).std() == pytest.approx(0.1, rel=0.05)


def test_bursts_slow_their_share_of_calls_by_exactly_their_factor() -> None:
    found = factors(Bursts(share=0.2, slowdown=3.0), 10_000)
    assert set(found) == {1.0, 3.0}
    assert (found == 3.0).mean() == pytest.approx(0.2, abs=4 * np.sqrt(0.2 * 0.8 / 10_000))


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
    with device(WarmUp(calls=2.0, slowdown=3.0)).open() as worker:
        first = worker.run(worker.load(PROGRAM).program_id, "a", 4)
        assert worker.run(worker.load(PROGRAM).program_id, "a", 4) == first


def test_touch_slows_the_first_call_after_another_program() -> None:
    with device(Touch(slowdown=2.0)).open() as worker:
        ids = [worker.load(PROGRAM).program_id, worker.load(OTHER).program_id]
        found = [np.array(worker.run(ids[turn], "a", 3)) / TRUE_S for turn in (0, 1, 1, 0)]
    assert [list(row) for row in found] == [[2, 1, 1], [2, 1, 1], [1, 1, 1], [2, 1, 1]]


def opening_factor(simulated: SimulatedDevice, program: Program) -> set[float]:
    with simulated.open() as worker:
        return set(worker.run(worker.load(program).program_id, "a", 20))


def test_an_opening_offset_lasts_as_long_as_the_opening() -> None:
    assert len(opening_factor(device(OpeningOffset(0.1)), PROGRAM)) == 1


def test_an_opening_offset_differs_between_openings() -> None:
    simulated = device(OpeningOffset(0.1))
    assert len({*opening_factor(simulated, PROGRAM), *opening_factor(simulated, PROGRAM)}) == 2


def test_an_opening_offset_differs_between_programs() -> None:
    assert opening_factor(device(OpeningOffset(0.1)), PROGRAM) != opening_factor(device(OpeningOffset(0.1)), OTHER)


def test_opening_offsets_have_their_standard_deviation() -> None:
    simulated = device(OpeningOffset(0.1))
    logs = [np.log(opening_factor(simulated, PROGRAM).pop() / TRUE_S) for _ in range(2000)]
    assert np.std(logs) == pytest.approx(0.1, rel=0.06)
    assert np.mean(logs) == pytest.approx(0, abs=4 * 0.1 / np.sqrt(2000))
