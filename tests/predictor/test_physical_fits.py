"""Non-negative and transferred prices."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.utils.estimator_checks import parametrize_with_checks

from adaptare.core import InputError
from adaptare.predictor.estimators.curved import Curved
from adaptare.predictor.estimators.nonnegative import NonNegativeLinear
from adaptare.predictor.estimators.transferred import Transferred

Array = NDArray[np.float64]


@parametrize_with_checks([NonNegativeLinear(), Curved(), Transferred()])
def test_what_scikit_learn_asks_of_an_estimator(estimator: Any, check: Callable[[Any], None]) -> None:
    check(estimator)


@pytest.fixture
def work() -> Array:
    """Calls, bytes and FLOPs of forty architectures."""
    return np.random.default_rng(0).uniform((10, 1e5, 1e7), (200, 5e6, 1e9), size=(40, 3))


PRICES = np.array([2e-6, 1e-10, 1e-12])


def test_prices_are_found_and_never_negative(work: Array) -> None:
    seconds = 1e-3 + work @ PRICES
    fitted = NonNegativeLinear().fit(work, seconds)
    assert fitted.coef_ == pytest.approx(PRICES, rel=1e-6)
    assert fitted.intercept_ == pytest.approx(1e-3, rel=1e-6)
    falling = NonNegativeLinear().fit(work, seconds - 0.9 * work[:, 1] * PRICES[1] * 2)
    assert (falling.coef_ >= 0).all()
    assert falling.coef_[1] == 0


def test_relative_errors_count_and_not_absolute_ones() -> None:
    X, y = np.array([[1.0], [1.0], [100.0]]), np.array([1.0, 1.0, 150.0])
    fitted = NonNegativeLinear().fit(X, y)
    # Least squares in seconds would give 1.5.
    assert fitted.predict(X)[0] == pytest.approx(1.09, abs=0.01)


def test_few_rows_do_not_lead_prices_astray(work: Array) -> None:
    rng = np.random.default_rng(1)
    wide = np.hstack([work, rng.uniform(size=(40, 6)) * work[:, [2]]])
    seconds = (1e-3 + work @ PRICES) * rng.lognormal(0, 0.02, size=40)
    fitted = NonNegativeLinear().fit(wide[:10], seconds[:10])
    assert np.abs(fitted.predict(wide[10:]) / seconds[10:] - 1).mean() < 0.06


def test_prices_of_other_columns_are_refused(work: Array) -> None:
    with pytest.raises(InputError, match="3 columns need as many prices, or none; 2 came"):
        Transferred((1.0, 2.0)).fit(work, work @ PRICES)
