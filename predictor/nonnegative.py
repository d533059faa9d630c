"""A linear fit of costs, which cannot be negative."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.utils.validation import check_is_fitted, validate_data


class NonNegativeLinear(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn publishes no types
    """Least squares in relative error with a price of at least 0 for every column and for the call itself.

    Minimises sum((b + X c - y)^2 / y^2) over b, c >= 0. Where columns are calls, bytes and FLOPs, no price can be
    negative, and knowing that is worth many rows: the fit has few columns at work and needs no strength to choose.

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
        columns, target = checked
        self._rows = (columns, target)
        weights = 1 / np.maximum(np.abs(target), np.finfo(np.float64).tiny ** 0.5)
        largest = np.abs(columns).max(axis=0)
        scale = np.where(largest > 0, largest, 1.0)
        design = np.hstack([np.ones((len(target), 1)), columns / scale])
        prices, _ = nnls(design * weights[:, None], target * weights)
        self.intercept_ = float(prices[0])
        self.coef_: NDArray[np.float64] = prices[1:] / scale
        return self

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """Shape (n, n_features) -> (n,)."""
        check_is_fitted(self)
        checked: NDArray[np.float64] = validate_data(self, X, reset=False, dtype=np.float64)
        return checked @ self.coef_ + self.intercept_

    def left_out_residuals(self, groups: ArrayLike | None = None) -> NDArray[np.float64]:
        """What each training row is off when it and the rest of its group are left out.

        Args:
            groups: Rows of equal label are left out together. Shape (n_samples,). Default: each alone.
        """
        check_is_fitted(self)
        X, y = self._rows
        labels = np.arange(len(y)) if groups is None else np.asarray(groups)
        left_out = np.empty(len(y))
        for label in np.unique(labels):
            own = labels == label
            left_out[own] = y[own] - (clone(self).fit(X[~own], y[~own]).predict(X[own]) if not own.all() else 0.0)
        return left_out

    def __sklearn_tags__(self) -> object:
        """A latency of 0 or below has no relative error, and costs do not fit what is not one."""
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True
        return tags
