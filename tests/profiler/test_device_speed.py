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


def test_a_machine_that_stays_as_it_is_raises_no_alarm() -> None:
    assert sum(bool(speed_changes(noise(seed, 200, sigma))) for seed in range(20) for sigma in (0.005, 0.05)) <= 1


def test_noise_that_remembers_raises_no_alarm() -> None:
    assert np.mean([bool(speed_changes(remembering(seed, n))) for seed in range(50) for n in (40, 400)]) <= 0.02


@pytest.mark.parametrize("factor", [1.2, 1 / 1.2])
def test_a_step_is_seen_soon_below_noise_that_remembers(factor: float) -> None:
    steps = np.where(np.arange(200) < 100, 1.0, factor)
    first = [speed_changes(remembering(seed, 200) * steps)[:1] for seed in range(40)]
    assert np.mean([bool(each) and abs(each[0] - 100) <= 10 for each in first]) >= 0.95


def test_every_change_is_told_once_and_a_single_slow_round_is_none() -> None:
    seconds = noise(3)
    seconds[40:80] *= 1.3
    seconds[[20, 100]] *= 3
    assert speed_changes(seconds) == pytest.approx([40, 80], abs=1)


def test_too_few_rounds_say_nothing() -> None:
    assert [speed_changes(noise(5, n)) for n in (1, 2, 10)] == [[]] * 3


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
