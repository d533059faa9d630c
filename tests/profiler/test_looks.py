"""Looks at a measurement that goes on: together they err as often as one."""

import numpy as np
import pytest
from scipy import stats

from adaptare.profiler.analysis import look_errors


def test_a_single_look_has_all_of_the_error() -> None:
    assert look_errors(1, 0.025) == pytest.approx((0.025,), rel=1e-4)


@pytest.mark.parametrize("error", [0.025, 0.001])
def test_two_looks_together_err_as_often_as_one(error: float) -> None:
    """By the bivariate normal distribution of the means after half and after all of the measurement."""
    bounds = stats.norm.isf(look_errors(2, error))
    both = stats.multivariate_normal(cov=[[1, 0.5**0.5], [0.5**0.5, 1]]).cdf(bounds)
    assert 1 - both == pytest.approx(error, rel=2e-3)


def test_four_looks_together_err_as_often_as_one() -> None:
    bounds = stats.norm.isf(look_errors(4, 0.025))
    sums = np.cumsum(np.random.default_rng(0).standard_normal((200_000, 4)), axis=1)
    wrong = (sums / np.sqrt([1, 2, 3, 4]) > bounds).any(axis=1).mean()
    assert wrong == pytest.approx(0.025, abs=0.0015)
