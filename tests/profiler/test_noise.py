"""Autocorrelated noise: its estimate, what changes do to that, and the variance of its means."""

import numpy as np
import pytest
from numpy.typing import NDArray

from adaptare.profiler.analysis.noise import LAG, MOST_CORRELATED, Noise


def remembering(seed: int, n: int = 200, *, sigma: float = 0.03, rho: float = 0.7) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    states = [rng.standard_normal()]
    for fresh in np.sqrt(1 - rho**2) * rng.standard_normal(n - 1):
        states.append(rho * states[-1] + fresh)
    return sigma * np.array(states)


def estimates(made: list[NDArray[np.float64]]) -> tuple[float, float]:
    found = [Noise.of(logs) for logs in made]
    return float(np.median([each.sigma for each in found])), float(np.median([each.correlation for each in found]))


@pytest.mark.parametrize("rho", [0.0, 0.7])
def test_the_estimate_is_near_the_truth(rho: float) -> None:
    sigma, correlation = estimates([remembering(seed, rho=rho) for seed in range(100)])
    assert correlation == pytest.approx(rho, abs=0.1)
    assert sigma == pytest.approx(0.03 * np.sqrt(1 - rho**LAG), rel=0.05)


def test_spikes_do_not_look_like_memory() -> None:
    spikes = [
        np.where(np.random.default_rng(seed).random(200) < 0.05, 2.0, 0.0) + remembering(seed, rho=0.0)
        for seed in range(100)
    ]
    assert estimates(spikes)[1] < 0.15


def test_a_random_walk_is_as_correlated_as_noise_can_be() -> None:
    assert Noise.of(np.cumsum(remembering(0, rho=0.0))).correlation == MOST_CORRELATED


def test_equal_values_have_no_noise_and_no_less_correlation_than_assumed() -> None:
    assert Noise.of(np.zeros(8)) == Noise(0.0, 0.0)
    assert Noise.of(remembering(0, rho=0.0), least_correlation=0.7).correlation == 0.7


def test_the_variance_of_a_mean_is_that_of_its_covariances() -> None:
    noise, lengths = Noise(0.03, 0.7), np.array([1, 3, 50])
    apart = [np.abs(np.subtract.outer(np.arange(n), np.arange(n))) for n in lengths]
    expected = [0.03**2 * np.mean(0.7**each) for each in apart]
    assert noise.variance_of_mean(lengths) == pytest.approx(expected)
    assert noise.variance_of_mean(3) == pytest.approx(expected[1])
