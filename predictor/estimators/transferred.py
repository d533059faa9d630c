"""Fit with coefficients transferred from another device, runtime or model."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from adaptare.core import InputError
from adaptare.predictor.estimators.estimator import LinearEstimator
from adaptare.predictor.estimators.shrunken import ShrunkenLinear


class Transferred(LinearEstimator):
    """Ridge regression towards the coefficients of another fit, scaled by one factor, instead of towards its prior fit.

    Args:
        prices: Coefficient of each column in the other fit; only their proportions matter. Length n_features; none:
            no prior knowledge.

    Attributes:
        coef_: Shape (n_features,).
        intercept_: The prediction at X = 0.
    """

    fewest_rows = 2

    def __init__(self, prices: Sequence[float] = ()) -> None:
        self.prices = prices

    def _learn(self, X: NDArray[np.float64], y: NDArray[np.float64]) -> None:
        if len(self.prices) not in (0, X.shape[1]):
            raise InputError(f"{X.shape[1]} columns need as many prices, or none; {len(self.prices)} came")
        prices = np.asarray(self.prices if len(self.prices) else np.zeros(X.shape[1]), dtype=np.float64)
        # Equal rows have bitwise equal prices, by which they are recognised as equal.
        different, same = np.unique(X, axis=0, return_inverse=True)
        known = (different @ prices)[same.ravel()]
        self.shrunken_ = ShrunkenLinear(prior_columns=(0,)).fit(np.column_stack([known, X]), y)
        self.coef_ = self.shrunken_.coef_[0] * prices + self.shrunken_.coef_[1:]
        self.intercept_ = self.shrunken_.intercept_

    def left_out_residuals(self, apart: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        check_is_fitted(self)
        return self.shrunken_.left_out_residuals(apart)
