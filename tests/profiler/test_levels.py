"""Openings at two levels: recognised, and the interval of the stated quantity holds it."""

import numpy as np
import pytest

from adaptare.profiler.analysis.intervals import ratio_interval
from adaptare.profiler.analysis.levels import Levels, levels_of

SHIFT = np.log1p(0.06)


def medians(rng: np.random.Generator, n: int, share: float, sigma: float) -> np.ndarray:
    """Logarithms of the openings of one session."""
    return sigma * rng.standard_normal(n) + SHIFT * (rng.random(n) < share)


def test_two_levels_are_told_with_their_shares() -> None:
    found = levels_of(np.log([1.0, 1.002, 1.06, 0.998, 1.001, 1.062, 0.999, 1.0]))
    assert found is not None
    assert (found.lower, found.upper, found.share) == pytest.approx((1.0, 1.061, 0.25), abs=1e-3)


def test_exact_levels_are_told() -> None:
    assert levels_of(np.log([1.0, 1.0, 1.1, 1.1])) == Levels(pytest.approx(1.0), pytest.approx(1.1), 0.5)


@pytest.mark.parametrize(
    "ratios",
    [[1.0], [1.0] * 8, [1.0, 1.0, 1.06], [1.0] * 7 + [1.06], [1.0, 1.0, 1.01, 1.01], [1.0, 1.02, 1.04, 1.06] * 2],
    ids=["one", "equal", "few", "an outlier", "close", "spread"],
)
def test_one_level_is_not_taken_for_two(ratios: list[float]) -> None:
    assert levels_of(np.log(ratios)) is None


@pytest.mark.parametrize("n", [8, 48])
def test_noise_is_rarely_taken_for_two_levels(n: int) -> None:
    rng = np.random.default_rng(0)
    assert np.mean([levels_of(medians(rng, n, 0.0, 0.03)) is not None for _ in range(1000)]) <= 0.03


@pytest.mark.parametrize(("share", "n", "sigma"), [(0.5, 8, 0.003), (0.3, 16, 0.01), (0.5, 48, 0.015)])
def test_the_interval_holds_the_mean_of_the_middle_half_of_all_openings(share: float, n: int, sigma: float) -> None:
    """Before, 72 to 80 % for openings that are half at either level."""
    rng = np.random.default_rng(0)
    everything = np.sort(medians(rng, 400_000, share, sigma))
    truth = float(np.exp(everything[100_000:300_000].mean()))
    held = [ratio_interval(np.exp(medians(rng, n, share, sigma)), np.arange(n)).contains(truth) for _ in range(300)]
    assert np.mean(held) >= 0.9 - 2 * np.sqrt(0.9 * 0.1 / len(held))
