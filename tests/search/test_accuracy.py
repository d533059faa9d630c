"""Intervals of accuracies and of paired differences, against other methods."""

import numpy as np
import pytest
from scipy import stats

from adaptare.core import InputError
from adaptare.search.training.accuracy import Accuracy, accuracy_of
from adaptare.search.training.quality import paired_difference


@pytest.mark.parametrize(("right", "questions"), [(0, 5), (3, 10), (48, 48), (633, 2376)])
def test_the_interval_of_a_share_is_that_of_wilson(right: int, questions: int) -> None:
    found = Accuracy("a", questions, right, right, 0).share
    known = stats.binomtest(right, questions).proportion_ci(0.95, method="wilson")
    assert (found.lower, found.middle, found.upper) == pytest.approx((known.low, right / questions, known.high))


def test_answers_are_counted_beside_those_of_the_base() -> None:
    right, untrained = np.array([1, 1, 1, 0, 0]) == 1, np.array([1, 0, 0, 1, 0]) == 1
    found = accuracy_of("a", right, untrained)
    assert found == Accuracy("a", questions=5, right=3, gained=2, lost=1)
    assert found.difference.middle == pytest.approx(0.2)


def test_paired_intervals_of_shares_hold_what_they_say() -> None:
    """Of 2000 draws with a true difference of 0.15, 95 % contain it; unpaired ones would be too wide."""
    rng, questions = np.random.default_rng(0), 100
    draws = rng.multinomial(questions, [0.4, 0.2, 0.05, 0.35], size=2000)
    found = [Accuracy("a", questions, both + gained, gained, lost).difference for both, gained, lost, _ in draws]
    assert 0.935 < np.mean([interval.contains(0.15) for interval in found]) < 0.975


def test_a_difference_stays_between_minus_one_and_one() -> None:
    assert Accuracy("a", 3, 3, 3, 0).difference.upper == 1
    assert Accuracy("a", 3, 0, 0, 3).difference.lower == -1


@pytest.mark.parametrize("counts", [(5, 6, 0, 0), (5, 3, 4, 0), (5, 3, 0, 3), (5, 3, -1, 0)])
def test_impossible_counts_are_refused(counts: tuple[int, int, int, int]) -> None:
    with pytest.raises(InputError, match="inconsistent counts: need gained <= right"):
        Accuracy("a", *counts)


def test_answers_to_other_questions_are_not_paired() -> None:
    with pytest.raises(InputError, match="answers to 3 questions cannot be paired with those to 2"):
        accuracy_of("a", np.ones(3, dtype=bool), np.ones(2, dtype=bool))


def losses(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two sums of losses that vary much more between examples than they differ, of examples of many lengths."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(1, 30, size=n)
    first = tokens * rng.uniform(1, 4, size=n)
    return first, first - tokens * rng.normal(0.1, 0.2, size=n), tokens


def test_a_paired_difference_is_that_of_the_means_and_its_interval_that_of_a_bootstrap() -> None:
    first, second, tokens = losses(200, seed=0)
    found = paired_difference(first, second, tokens)
    assert found.middle == pytest.approx(first.sum() / tokens.sum() - second.sum() / tokens.sum())
    drawn = np.random.default_rng(1).integers(0, 200, size=(20_000, 200))
    again = (first - second)[drawn].sum(1) / tokens[drawn].sum(1)
    assert (found.lower, found.upper) == pytest.approx(tuple(np.quantile(again, [0.025, 0.975])), abs=0.003)
    assert found.upper - found.lower < 0.1 * 2 * 1.96 * np.std(first / tokens)


def test_paired_intervals_of_losses_hold_what_they_say() -> None:
    found = [paired_difference(*losses(30, seed)).contains(0.1) for seed in range(1000)]
    assert 0.92 < np.mean(found) < 0.975


def test_one_example_says_nothing_of_others() -> None:
    found = paired_difference(np.array([3.0]), np.array([2.0]), np.array([2]))
    assert (found.lower, found.middle, found.upper) == (-np.inf, 0.5, np.inf)


def test_losses_of_other_examples_are_not_paired() -> None:
    with pytest.raises(InputError, match="losses of 3 and 2 examples, with 3 lengths, do not pair"):
        paired_difference(np.ones(3), np.ones(2), np.ones(3, dtype=np.int64))
