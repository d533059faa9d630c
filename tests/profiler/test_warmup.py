"""Seven kinds of series, and when each has settled."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import rankdata

from adaptare.profiler.analysis.warmup import Steadiness, _ranks, common_warmup, steadiness

Series = NDArray[np.float64]


def noisy(seconds: Series, seed: int, sigma: float = 0.01) -> Series:
    noise: Series = seconds * np.exp(sigma * np.random.default_rng(seed).standard_normal(len(seconds)))
    return noise


def remembering(seconds: Series, seed: int, sigma: float = 0.03, rho: float = 0.7) -> Series:
    rng = np.random.default_rng(seed)
    states = [rng.standard_normal()]
    for fresh in np.sqrt(1 - rho**2) * rng.standard_normal(len(seconds) - 1):
        states.append(rho * states[-1] + fresh)
    noise: Series = seconds * np.exp(sigma * np.array(states))
    return noise


def level(n: int = 200) -> Series:
    return np.ones(n)


def step(to: float, at: int, n: int = 200) -> Series:
    return np.where(np.arange(n) < at, 1.0, to)


def ramp(by: float, calls: float, n: int = 200) -> Series:
    decay: Series = 1 + by * np.exp(-np.arange(n) / calls)
    return decay


def settled_everywhere(make: Callable[[int], Series], trend: str) -> float:
    return float(np.mean([steadiness(make(seed)).trend == trend for seed in range(20)]))


def test_ranks_of_equal_values_are_their_mean() -> None:
    values = np.random.default_rng(0).integers(0, 9, 40).astype(np.float64)
    np.testing.assert_array_equal(_ranks(values), rankdata(values))


def test_noise_on_one_level_is_flat_and_nothing_is_dropped() -> None:
    found = [steadiness(noisy(level(), seed, sigma)) for seed in range(30) for sigma in (0.002, 0.1)]
    assert np.mean([each == Steadiness("flat") for each in found]) >= 0.95


@pytest.mark.parametrize("n", [20, 400])
def test_noise_that_remembers_is_flat_and_nothing_is_dropped(n: int) -> None:
    found = [steadiness(remembering(level(n), seed)) for seed in range(60)]
    assert np.mean([each.trend == "flat" for each in found]) >= 0.95
    assert np.mean([each.start == 0 for each in found]) >= 0.95


@pytest.mark.parametrize(
    ("series", "trend"),
    [(ramp(1.0, 10), "warm-up"), (step(1 / 1.2, 40), "warm-up"), (step(1.2, 40), "slowdown")],
    ids=["ramp", "step down", "step up"],
)
def test_changes_are_found_below_noise_that_remembers(series: Series, trend: str) -> None:
    found = [steadiness(remembering(series, seed)).trend == trend for seed in range(40)]
    assert np.mean(found) >= 0.95


@pytest.mark.parametrize(
    ("make", "trend"),
    [
        (lambda seed: noisy(ramp(0.5, 10), seed), "warm-up"),
        (lambda seed: noisy(step(0.8, 30), seed), "warm-up"),
        (lambda seed: noisy(step(1.25, 30), seed), "slowdown"),
        (lambda seed: noisy(np.linspace(1, 1.3, 200), seed), "no steady state"),
        (lambda seed: noisy(np.repeat([1.0, 1.2, 0.9, 1.1, 1.3, 0.95, 1.15, 1.0], 25), seed), "no steady state"),
    ],
    ids=["ramp", "step down", "step up", "drift", "levels"],
)
def test_series_that_change_are_told_apart(make: Callable[[int], Series], trend: str) -> None:
    assert settled_everywhere(make, trend) >= 0.95


def test_two_modes_and_spikes_are_no_change() -> None:
    def two_modes(seed: int) -> Series:
        return noisy(np.where(np.random.default_rng(seed).random(200) < 0.2, 1.2, 1.0), seed)

    def spikes(seed: int) -> Series:
        return noisy(np.where(np.random.default_rng(seed).random(200) < 0.05, 8.0, 1.0), seed)

    assert settled_everywhere(two_modes, "flat") >= 0.95
    assert settled_everywhere(spikes, "flat") >= 0.95


@pytest.mark.parametrize("at", [12, 60])
def test_the_start_is_where_the_step_is(at: int) -> None:
    starts = [steadiness(noisy(step(0.8, at), seed)).start for seed in range(20)]
    assert np.median(starts) == at
    assert np.max(np.abs(np.array(starts) - at)) <= 3


def test_a_disturbance_that_passes_drops_nothing() -> None:
    seconds = noisy(level(), 1)
    seconds[40:60] *= 1.5
    assert steadiness(seconds) == Steadiness("flat")


def test_a_few_rounds_and_changes_too_small_to_matter_are_flat() -> None:
    series = [noisy(level(n), 2) for n in (1, 2, 3, 8)]
    assert [steadiness(each) for each in (*series, noisy(step(0.985, 60), 1, sigma=0.001))] == [Steadiness("flat")] * 5


def of_openings(first: float, seed: int, sigma: float = 0.02) -> tuple[Series, NDArray[np.int64]]:
    """Five openings of eight rounds; the first round of each takes so many times as long."""
    return noisy(np.tile([first, *[1.0] * 7], 5), seed, sigma), np.repeat(np.arange(5), 8)


def test_a_slow_first_round_of_every_opening_is_found_over_all_of_them() -> None:
    assert np.mean([common_warmup(*of_openings(1.15, seed)) == 1 for seed in range(100)]) >= 0.95
    # One opening alone is too short to show it.
    assert all(steadiness(of_openings(1.15, seed)[0][:8]).start == 0 for seed in range(20))


def test_rounds_of_one_speed_are_seldom_called_a_warm_up() -> None:
    assert np.mean([common_warmup(*of_openings(1.0, seed)) > 0 for seed in range(200)]) <= 0.05


def test_one_slow_opening_is_no_warm_up_of_all() -> None:
    seconds, openings = of_openings(1.0, 0)
    seconds[8] *= 3
    assert common_warmup(seconds, openings) == 0
