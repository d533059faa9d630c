"""Fit with coefficients transferred from another device, runtime or model."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from adaptare.devices import InputError
from adaptare.predictor.estimators.shrunken import ShrunkenLinear


class Transferred(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn publishes no types
    """Ridge regression towards the coefficients of another fit, scaled by one factor, instead of towards its prior fit.

    Args:
        prices: Coefficient of each column in the other fit; only their proportions matter. Length n_features; none:
            no prior knowledge.

    Attributes:
        coef_: Shape (n_features,).
        intercept_: The prediction at X = 0.
    """

    def __init__(self, prices: Sequence[float] = ()) -> None:
        self.prices = prices

    def fit(self, X: ArrayLike, y: ArrayLike) -> "Transferred":
        """X of shape (n_samples, n_features), y of shape (n_samples,)."""
        checked: tuple[NDArray[np.float64], NDArray[np.float64]]
        checked = validate_data(self, X, y, y_numeric=True, dtype=np.float64, ensure_min_samples=2)
        n_features = checked[0].shape[1]
        if len(self.prices) not in (0, n_features):
            raise InputError(f"{n_features} columns need as many prices, or none; {len(self.prices)} came")
        prices = np.asarray(self.prices if len(self.prices) else np.zeros(n_features), dtype=np.float64)
        # Equal rows have bitwise equal prices, by which they are recognised as equal.
        different, same = np.unique(checked[0], axis=0, return_inverse=True)
        known = (different @ prices)[same.ravel()]
        self.shrunken_ = ShrunkenLinear(prior_columns=(0,)).fit(np.column_stack([known, checked[0]]), checked[1])
        self.coef_: NDArray[np.float64] = self.shrunken_.coef_[0] * prices + self.shrunken_.coef_[1:]
        self.intercept_ = self.shrunken_.intercept_
        return self

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """Shape (n, n_features) -> (n,)."""
        check_is_fitted(self)
        checked: NDArray[np.float64] = validate_data(self, X, reset=False, dtype=np.float64)
        return checked @ self.coef_ + self.intercept_

    def left_out_residuals(self, apart: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """See `ShrunkenLinear.left_out_residuals`."""
        check_is_fitted(self)
        return self.shrunken_.left_out_residuals(apart)
