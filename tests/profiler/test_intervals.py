"""Intervals against the truth of simulated rounds, and against closed forms."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.signal import lfilter

from adaptare.profiler.analysis.intervals import Interval, openings_needed, ratio_interval

TRIALS = 300
NOISE = 0.02
ONE_OPENING = np.zeros(60, dtype=np.int64)


def autocorrelated(rng: np.random.Generator, rounds: int, rho: float) -> NDArray[np.float64]:
    """A stationary AR(1) series of variance 1. Shape (rounds,)."""
    fresh = rng.standard_normal(rounds + 200) * np.sqrt(1 - rho**2)
    return lfilter([1.0], [1.0, -rho], fresh)[200:]


def coverage(logs: NDArray[np.float64], openings: NDArray[np.int64]) -> float:
    """Share of trials whose interval holds the true ratio 1; logs of shape (trials, rounds)."""
    return float(np.mean([ratio_interval(np.exp(row), openings).contains(1.0) for row in logs]))


def independent_bootstrap_covers(logs: NDArray[np.float64], rng: np.random.Generator) -> bool:
    """The textbook bootstrap, blind to the order of rounds."""
    medians = np.median(logs[rng.integers(0, len(logs), (500, len(logs)))], axis=1)
    lower, upper = np.percentile(medians, [2.5, 97.5])
    return bool(lower <= 0 <= upper)


@pytest.mark.parametrize("rounds", [20, 60])
def test_covers_the_truth_where_rounds_are_independent(rounds: int) -> None:
    logs = NOISE * np.random.default_rng(1).standard_normal((TRIALS, rounds))
    assert coverage(logs, np.zeros(rounds, dtype=np.int64)) >= 0.92


def test_independent_rounds_do_not_make_it_much_wider_than_needed() -> None:
    logs = NOISE * np.random.default_rng(2).standard_normal((TRIALS, 60))
    widths = [ratio_interval(np.exp(row), ONE_OPENING).half_width for row in logs]
    # The median of n normal values has a standard deviation of sqrt(pi / 2n).
    assert np.median(widths) == pytest.approx(1.96 * NOISE * np.sqrt(np.pi / 2 / 60), rel=0.2)


@pytest.mark.parametrize("rho", [0.3, 0.5])
def test_covers_the_truth_where_rounds_remember(rho: float) -> None:
    rng = np.random.default_rng(3)
    logs = np.array([NOISE * autocorrelated(rng, 60, rho) for _ in range(TRIALS)])
    assert coverage(logs, ONE_OPENING) >= 0.90


def test_rounds_that_remember_need_more_than_the_independent_bootstrap() -> None:
    rng = np.random.default_rng(4)
    covered = [independent_bootstrap_covers(NOISE * autocorrelated(rng, 60, 0.5), rng) for _ in range(TRIALS)]
    assert np.mean(covered) < 0.85


@pytest.mark.parametrize("openings", [2, 3, 5, 8])
def test_covers_the_truth_where_openings_differ(openings: int) -> None:
    rng = np.random.default_rng(5)
    label = np.repeat(np.arange(openings), 10)
    offsets = NOISE * rng.standard_normal((TRIALS, openings))
    logs = offsets[:, label] + NOISE / 2 * rng.standard_normal((TRIALS, len(label)))
    assert coverage(logs, label) >= 0.90


@pytest.mark.parametrize("openings", [4, 6, 8])
def test_covers_the_truth_where_rounds_scatter_more_than_openings(openings: int) -> None:
    rng = np.random.default_rng(15)
    label = np.repeat(np.arange(openings), 4)
    scatter = NOISE / 2 * rng.standard_t(3, (1000, len(label)))
    logs = NOISE / 5 * rng.standard_normal((1000, openings))[:, label] + scatter
    # Percentiles of the bootstrap, scaled alike, hold in 91 to 94 % of these.
    assert coverage(logs, label) >= 0.94


@pytest.mark.parametrize(("openings", "least"), [(2, 0.85), (3, 0.90), (5, 0.90)])
def test_covers_the_truth_where_openings_do_not_differ(openings: int, least: float) -> None:
    label = np.repeat(np.arange(openings), 10)
    logs = NOISE * np.random.default_rng(6).standard_normal((TRIALS, len(label)))
    assert coverage(logs, label) >= least


def test_openings_that_differ_need_to_be_told_apart() -> None:
    rng = np.random.default_rng(7)
    logs = np.repeat(NOISE * rng.standard_normal((TRIALS, 5)), 12, axis=1)
    logs += NOISE / 4 * rng.standard_normal(logs.shape)
    assert coverage(logs, ONE_OPENING) < 0.85


def test_few_openings_that_agree_give_a_narrow_interval() -> None:
    ratios = np.tile([1.0, 1.01, 1.02], 4)
    found = ratio_interval(ratios, np.repeat(np.arange(4), 3))
    assert (found.lower, found.upper) == pytest.approx((1.01, 1.01), rel=1e-12)


def test_the_middle_is_the_median() -> None:
    ratios = np.array([1.2, 1.1, 9.0, 1.3, 0.2])
    assert ratio_interval(ratios, np.zeros(5, dtype=np.int64)).middle == pytest.approx(1.2, rel=1e-12)


def test_the_middle_of_an_even_number_is_the_geometric_mean_of_the_two() -> None:
    found = ratio_interval(np.array([1.0, 2.0, 8.0, 16.0]), np.zeros(4, dtype=np.int64))
    assert found.middle == pytest.approx(4.0, rel=1e-12)


def test_equal_ratios_give_an_interval_without_width() -> None:
    found = ratio_interval(np.full(60, 1.25), ONE_OPENING)
    assert (found.lower, found.middle, found.upper) == pytest.approx((1.25, 1.25, 1.25), rel=1e-12)


def test_the_middle_lies_between_the_ends() -> None:
    rng = np.random.default_rng(8)
    found = [ratio_interval(np.exp(rng.exponential(size=7)), np.zeros(7, dtype=np.int64)) for _ in range(50)]
    assert all(interval.lower <= interval.middle <= interval.upper for interval in found)


def test_the_same_rounds_give_the_same_interval() -> None:
    ratios = np.exp(NOISE * np.random.default_rng(9).standard_normal(60))
    assert ratio_interval(ratios, ONE_OPENING) == ratio_interval(ratios.copy(), ONE_OPENING)


def test_a_common_factor_scales_the_interval() -> None:
    ratios = np.exp(NOISE * np.random.default_rng(10).standard_normal(60))
    single, double = ratio_interval(ratios, ONE_OPENING), ratio_interval(2 * ratios, ONE_OPENING)
    assert (double.lower, double.upper) == pytest.approx((2 * single.lower, 2 * single.upper), rel=1e-12)


def test_candidate_and_reference_exchanged_invert_the_interval() -> None:
    ratios = np.exp(NOISE * np.random.default_rng(11).standard_normal(60))
    there, back = ratio_interval(ratios, ONE_OPENING), ratio_interval(1 / ratios, ONE_OPENING)
    assert (back.lower, back.middle, back.upper) == pytest.approx(
        (1 / there.upper, 1 / there.middle, 1 / there.lower), rel=1e-4
    )


def test_the_numbers_of_the_openings_do_not_matter() -> None:
    ratios = np.exp(NOISE * np.random.default_rng(12).standard_normal(20))
    label = np.repeat([0, 1], 10)
    assert ratio_interval(ratios, label) == ratio_interval(ratios, label + 7)


def test_openings_of_unequal_length_are_taken() -> None:
    ratios = np.exp(NOISE * np.random.default_rng(13).standard_normal(13))
    found = ratio_interval(ratios, np.array([0] * 9 + [1] * 4))
    assert found.lower < found.middle < found.upper


@pytest.mark.parametrize(("value", "inside"), [(0.9, False), (1.0, True), (1.5, True), (2.0, True), (2.1, False)])
def test_the_ends_belong_to_the_interval(value: float, inside: bool) -> None:
    assert Interval(1.0, 1.5, 2.0).contains(value) is inside


def test_a_few_rounds_of_a_cut_off_opening_change_next_to_nothing() -> None:
    ratios = np.exp(np.random.default_rng(0).normal(0.1, 0.01, 42))
    whole = ratio_interval(ratios[:41], np.zeros(41, dtype=np.int64))
    with_rest = ratio_interval(ratios, np.array([0] * 41 + [1]))
    assert with_rest.lower == pytest.approx(whole.lower, abs=0.002)
    assert with_rest.upper == pytest.approx(whole.upper, abs=0.002)


@pytest.mark.parametrize("rounds", [1, 2])
def test_rounds_that_say_nothing_of_their_spread_give_no_ends(rounds: int) -> None:
    found = ratio_interval(np.array([1.2, 1.3])[:rounds], np.zeros(rounds, dtype=np.int64))
    assert (found.lower, found.upper) == (0.0, float("inf"))
    assert 1.2 <= found.middle <= 1.3


def test_one_odd_opening_among_six_leaves_the_estimate_near_the_others_and_widens_the_interval() -> None:
    ratios = np.repeat([1.0, 1.01, 1.0, 1.01, 1.0, 1.5], 4)
    found = ratio_interval(ratios, np.repeat(np.arange(6), 4))
    # One and a half of six do not count at either end: of 1, 1, 1.01 and 1.01, the first and last count by half.
    assert found.middle == pytest.approx(1.01 ** (1.5 / 3), rel=1e-12)
    assert found.contains(1.5**0.25)


def test_two_openings_are_averaged() -> None:
    found = ratio_interval(np.repeat([1.0, 1.21], 4), np.repeat([0, 1], 4))
    assert found.middle == pytest.approx(1.1, rel=1e-12)


def test_more_openings_are_expected_to_narrow_the_interval_by_their_number_and_by_students_quantile() -> None:
    t = stats.t(df=[1, 16, 15]).ppf(0.975)
    assert [openings_needed(1.0, 2, 1.0), openings_needed(1.0, 2, float(t[1] / t[0] * np.sqrt(2 / 17)))] == [2, 17]
