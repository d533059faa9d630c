"""Physical fit with a smooth, nonlinear correction."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from adaptare.predictor.estimators.corrected import Corrected, bounded
from adaptare.predictor.estimators.shrunken import ShrunkenLinear
from adaptare.predictor.estimators.smooth import Smooth


class Curved(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn publishes no types
    """y = (X coef_ + intercept_) exp(curve_(X)): a shrunken linear fit and a Gaussian process on its log-ratio.

    For devices on which a cost has a knee: ranks that fill a tile, adapters that exceed the cache.

    Args:
        prior_columns: Prior columns of the linear fit; see `ShrunkenLinear`.

    Attributes:
        coef_: Shape (n_features,).
        intercept_: The linear prediction at X = 0.
        curve_: Curve of the log-ratio; far from all rows it is their mean.
    """

    def __init__(self, prior_columns: tuple[int, ...] = ()) -> None:
        self.prior_columns = prior_columns

    def fit(self, X: ArrayLike, y: ArrayLike) -> "Curved":
        """X of shape (n_samples, n_features), y of shape (n_samples,), above 0."""
        checked: tuple[NDArray[np.float64], NDArray[np.float64]]
        checked = validate_data(self, X, y, y_numeric=True, dtype=np.float64, ensure_min_samples=2)
        columns, self._target = checked
        # One length scale for all columns: tens of rows do not determine one for each.
        self.corrected_ = Corrected(ShrunkenLinear(self.prior_columns), Smooth(by_column=False)).fit(*checked)
        self.coef_: NDArray[np.float64] = self.corrected_.mean_.coef_
        self.intercept_: float = self.corrected_.mean_.intercept_
        self.curve_ = self.corrected_.correction_.curve_
        self._logs = np.log(self._target / self.corrected_.means(columns))
        return self

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """Shape (n, n_features) -> (n,)."""
        check_is_fitted(self)
        checked: NDArray[np.float64] = validate_data(self, X, reset=False, dtype=np.float64)
        predicted: NDArray[np.float64] = self.corrected_.predict(checked)
        return predicted

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.positive_only = True
        return tags

    def left_out_residuals(self, apart: NDArray[np.bool_]) -> NDArray[np.float64]:
        """See `ShrunkenLinear.left_out_residuals`; each part leaves the rows out while the other stays as fitted."""
        check_is_fitted(self)
        means = self._target - self.corrected_.mean_.left_out_residuals(apart)
        logs = self._logs - self.corrected_.correction_.left_out_residuals(apart)
        left_out: NDArray[np.float64] = self._target - means * bounded(logs)
        return left_out
