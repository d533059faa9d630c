"""Changes of the machine, as the reference shows them."""

import numpy as np
import pytest
from numpy.typing import NDArray

from adaptare.profiler.analysis.device_speed import stable_rounds
from adaptare.profiler.analysis.warmup import speed_changes


def noise(seed: int, n: int = 120, sigma: float = 0.01) -> NDArray[np.float64]:
    factors: NDArray[np.float64] = np.exp(sigma * np.random.default_rng(seed).standard_normal(n))
    return factors


def remembering(seed: int, n: int, sigma: float = 0.03, rho: float = 0.7) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    states = [rng.standard_normal()]
    for fresh in np.sqrt(1 - rho**2) * rng.standard_normal(n - 1):
        states.append(rho * states[-1] + fresh)
    factors: NDArray[np.float64] = np.exp(sigma * np.array(states))
    return factors


@pytest.mark.parametrize("factor", [1.2, 1 / 1.2])
def test_a_step_is_seen_where_it_is(factor: float) -> None:
    for seed in range(20):
        seconds = noise(seed)
        seconds[60:] *= factor
        assert speed_changes(seconds) == [60]


def test_a_slow_change_is_seen_once_it_matters() -> None:
    for seed in range(20):
        ramp = 1 + 0.1 * np.clip((np.arange(120) - 50) / 20, 0, 1)
        assert 50 <= speed_changes(noise(seed) * ramp)[0] <= 72


def test_a_machine_that_stays_as_it_is_raises_no_alarm() -> None:
    assert sum(bool(speed_changes(noise(seed, 200, sigma))) for seed in range(50) for sigma in (0.005, 0.02, 0.05)) <= 3


def test_noise_that_remembers_raises_no_alarm() -> None:
    assert (
        np.mean([bool(speed_changes(remembering(seed, n))) for seed in range(100) for n in (40, 120, 200, 400)]) <= 0.02
    )


@pytest.mark.parametrize("n", [120, 200, 400])
@pytest.mark.parametrize("factor", [1.2, 1 / 1.2])
def test_a_step_is_seen_soon_below_noise_that_remembers(n: int, factor: float) -> None:
    at = n // 2
    steps = np.where(np.arange(n) < at, 1.0, factor)
    first = [speed_changes(remembering(seed, n) * steps)[:1] for seed in range(100)]
    assert np.mean([bool(each) and abs(each[0] - at) <= 10 for each in first]) >= 0.95


def test_every_change_is_told_once() -> None:
    seconds = noise(3)
    seconds[40:80] *= 1.3
    assert speed_changes(seconds) == pytest.approx([40, 80], abs=1)


def test_a_single_slow_round_is_no_change() -> None:
    seconds = noise(4)
    seconds[[50, 51, 90]] *= 3
    assert speed_changes(seconds) == []


@pytest.mark.parametrize("n", [1, 2, 10])
def test_too_few_rounds_say_nothing(n: int) -> None:
    assert speed_changes(noise(5, n)) == []


@pytest.mark.parametrize("factor", [1.4, 1.05, 1 / 1.09])
def test_rounds_at_an_unusual_speed_are_not_stable(factor: float) -> None:
    seconds = noise(6, sigma=0.005)
    seconds[30:80] *= factor
    stable = stable_rounds(seconds)
    assert not stable[30:80].any()
    assert np.append(stable[:30], stable[80:]).mean() > 0.95


def test_of_two_speeds_as_usual_the_faster_is_taken() -> None:
    assert stable_rounds(np.array([1.1, 1.0, 1.0, 1.1])).tolist() == [False, True, True, False]


def test_a_lucky_round_sets_no_standard() -> None:
    seconds = noise(7, sigma=0.005)
    seconds[10] /= 2
    assert stable_rounds(seconds).mean() > 0.9
