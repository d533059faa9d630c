"""Linear fit of costs with non-negative coefficients."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from adaptare.predictor.estimators.shrunken import judged_together

# Iterations of the active-set method per column.
MOST_STEPS = 30


class NonNegativeLinear(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn publishes no types
    """Least squares in relative error with non-negative coefficients for every column and the intercept.

    Minimises sum((b + X c - y)^2 / y^2) over b, c >= 0. For columns of calls, bytes and FLOPs no cost can be negative,
    and the constraint is worth many rows: few columns are active and no regularisation strength has to be chosen.

    Attributes:
        coef_: Shape (n_features,), in units of y per unit of the column.
        intercept_: The prediction at X = 0.

    References:
        Lawson, Hanson 1974, "Solving least squares problems", chapter 23.
    """

    def fit(self, X: ArrayLike, y: ArrayLike) -> "NonNegativeLinear":
        """X of shape (n_samples, n_features), y of shape (n_samples,), above 0 where it is a latency."""
        checked: tuple[NDArray[np.float64], NDArray[np.float64]]
        checked = validate_data(self, X, y, y_numeric=True, dtype=np.float64)
        self._rows = checked
        self.intercept_, self.coef_ = _prices(*checked)
        return self

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """Shape (n, n_features) -> (n,)."""
        check_is_fitted(self)
        checked: NDArray[np.float64] = validate_data(self, X, reset=False, dtype=np.float64)
        return checked @ self.coef_ + self.intercept_

    def left_out_residuals(self, apart: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """Residual of each training row when it and others are left out; see `ShrunkenLinear.left_out_residuals`."""
        check_is_fitted(self)
        X, y = self._rows
        left_out = np.empty(len(y))
        for judged, rows in judged_together(np.eye(len(y), dtype=np.bool_) if apart is None else apart):
            if len(rows) == len(y):  # no training rows remain
                left_out[judged] = y[judged] - y.mean()
                continue
            intercept, prices = _prices(np.delete(X, rows, axis=0), np.delete(y, rows))
            left_out[judged] = y[judged] - X[judged] @ prices - intercept
        return left_out

    def __sklearn_tags__(self) -> object:
        """Tags: targets are above 0, since 0 has no relative error, and a fit of costs scores low on other data."""
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True
        return tags


def _prices(X: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    weights = 1 / np.maximum(np.abs(y), np.finfo(np.float64).tiny ** 0.5)
    largest = np.abs(X).max(axis=0)
    scale = np.where(largest > 0, largest, 1.0)
    design = np.hstack([np.ones((len(y), 1)), X / scale])
    # Totals alongside their parts make columns dependent, which takes the active-set method more steps than usual.
    prices, _ = nnls(design * weights[:, None], y * weights, maxiter=MOST_STEPS * design.shape[1])
    return float(prices[0]), prices[1:] / scale
