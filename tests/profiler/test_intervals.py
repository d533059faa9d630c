"""Intervals against the truth of simulated rounds, and against closed forms."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.signal import lfilter

from adaptare.profiler.analysis.intervals import Interval, openings_needed, ratio_interval, verdict

TRIALS = 200
NOISE = 0.02
ONE_OPENING = np.zeros(60, dtype=np.int64)


def autocorrelated(rng: np.random.Generator, rounds: int, rho: float) -> NDArray[np.float64]:
    """A stationary AR(1) series of variance 1. Shape (rounds,)."""
    fresh = rng.standard_normal(rounds + 200) * np.sqrt(1 - rho**2)
    return lfilter([1.0], [1.0, -rho], fresh)[200:]


def coverage(logs: NDArray[np.float64], openings: NDArray[np.int64]) -> float:
    """Share of trials whose interval holds the true ratio 1; logs of shape (trials, rounds)."""
    return float(np.mean([ratio_interval(np.exp(row), openings).contains(1.0) for row in logs]))


def test_covers_the_truth_where_rounds_are_independent() -> None:
    logs = NOISE * np.random.default_rng(1).standard_normal((TRIALS, 20))
    assert coverage(logs, ONE_OPENING[:20]) >= 0.92


def test_independent_rounds_do_not_make_it_much_wider_than_needed() -> None:
    logs = NOISE * np.random.default_rng(2).standard_normal((TRIALS, 60))
    widths = [ratio_interval(np.exp(row), ONE_OPENING).half_width for row in logs]
    # The median of n normal values has a standard deviation of sqrt(pi / 2n).
    assert np.median(widths) == pytest.approx(1.96 * NOISE * np.sqrt(np.pi / 2 / 60), rel=0.2)


def test_covers_the_truth_where_rounds_remember() -> None:
    """The textbook bootstrap, blind to the order of rounds, covers it in less than 85 %."""
    rng = np.random.default_rng(3)
    logs = np.array([NOISE * autocorrelated(rng, 60, 0.5) for _ in range(TRIALS)])
    assert coverage(logs, ONE_OPENING) >= 0.90


@pytest.mark.parametrize("openings", [2, 5])
def test_covers_the_truth_where_openings_differ(openings: int) -> None:
    rng = np.random.default_rng(5)
    label = np.repeat(np.arange(openings), 10)
    offsets = NOISE * rng.standard_normal((TRIALS, openings))
    logs = offsets[:, label] + NOISE / 2 * rng.standard_normal((TRIALS, len(label)))
    assert coverage(logs, label) >= 0.90


def test_covers_the_truth_where_rounds_scatter_more_than_openings() -> None:
    rng = np.random.default_rng(15)
    label = np.repeat(np.arange(6), 4)
    scatter = NOISE / 2 * rng.standard_t(3, (1000, len(label)))
    logs = NOISE / 5 * rng.standard_normal((1000, 6))[:, label] + scatter
    # Percentiles of the bootstrap, scaled alike, hold in 91 to 94 % of these.
    assert coverage(logs, label) >= 0.94


@pytest.mark.parametrize(("openings", "least"), [(2, 0.85), (3, 0.90)])
def test_covers_the_truth_where_openings_do_not_differ(openings: int, least: float) -> None:
    label = np.repeat(np.arange(openings), 10)
    logs = NOISE * np.random.default_rng(6).standard_normal((TRIALS, len(label)))
    assert coverage(logs, label) >= least


def test_few_openings_that_agree_give_a_narrow_interval() -> None:
    ratios = np.tile([1.0, 1.01, 1.02], 4)
    found = ratio_interval(ratios, np.repeat(np.arange(4), 3))
    assert (found.lower, found.upper) == pytest.approx((1.01, 1.01), rel=1e-12)


@pytest.mark.parametrize(("ratios", "middle"), [([1.2, 1.1, 9.0, 1.3, 0.2], 1.2), ([1.0, 2.0, 8.0, 16.0], 4.0)])
def test_the_middle_is_the_median_of_logarithms(ratios: list[float], middle: float) -> None:
    found = ratio_interval(np.array(ratios), ONE_OPENING[: len(ratios)])
    assert found.middle == pytest.approx(middle, rel=1e-12)


def test_candidate_and_reference_exchanged_invert_the_interval() -> None:
    ratios = np.exp(NOISE * np.random.default_rng(11).standard_normal(60))
    there, back = ratio_interval(ratios, ONE_OPENING), ratio_interval(1 / ratios, ONE_OPENING)
    assert (back.lower, back.middle, back.upper) == pytest.approx(
        (1 / there.upper, 1 / there.middle, 1 / there.lower), rel=1e-4
    )


def test_the_ends_belong_to_the_interval() -> None:
    assert [Interval(1.0, 1.5, 2.0).contains(value) for value in (0.9, 1.0, 2.0, 2.1)] == [False, True, True, False]


def test_a_few_rounds_of_a_cut_off_opening_change_next_to_nothing() -> None:
    ratios = np.exp(np.random.default_rng(0).normal(0.1, 0.01, 42))
    whole = ratio_interval(ratios[:41], np.zeros(41, dtype=np.int64))
    with_rest = ratio_interval(ratios, np.array([0] * 41 + [1]))
    assert with_rest.lower == pytest.approx(whole.lower, abs=0.002)
    assert with_rest.upper == pytest.approx(whole.upper, abs=0.002)


def test_rounds_that_say_nothing_of_their_spread_give_no_ends() -> None:
    for rounds in (1, 2):
        found = ratio_interval(np.array([1.2, 1.3])[:rounds], ONE_OPENING[:rounds])
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


@pytest.mark.parametrize(
    ("lower", "upper", "expected"),
    [
        (0.001, 0.009, "same"),
        (0.001, 0.02, "slower"),
        (-0.03, -0.02, "faster"),
        (-0.02, 0.001, "ambiguous"),
        (-0.005, 0.02, "ambiguous"),
    ],
)
def test_an_interval_gets_one_of_four_verdicts(lower: float, upper: float, expected: str) -> None:
    assert verdict(Interval(lower, (lower + upper) / 2, upper)) == expected


def test_the_band_of_the_verdict_can_be_chosen() -> None:
    assert verdict(Interval(0.01, 0.02, 0.03), band=0.05) == "same"
