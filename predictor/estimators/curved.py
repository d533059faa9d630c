"""Physical fit with a smooth, nonlinear correction."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from adaptare.predictor.estimators.corrected import Corrected, bounded
from adaptare.predictor.estimators.curve import Curve
from adaptare.predictor.estimators.estimator import LinearEstimator
from adaptare.predictor.estimators.shrunken import ShrunkenLinear
from adaptare.predictor.estimators.smooth import Smooth

CURVE = tuple(field.name for field in fields(Curve))


class Curved(LinearEstimator):
    """y = (X coef_ + intercept_) exp(curve(X)): a shrunken linear fit and a Gaussian process on its log-ratio.

    For devices on which a cost has a knee: ranks that fill a tile, adapters that exceed the cache.

    Args:
        prior_columns: Prior columns of the linear fit; see `ShrunkenLinear`.

    Attributes:
        coef_: Shape (n_features,).
        intercept_: The linear prediction at X = 0.
        curves_: Curves whose sum is the log-ratio: one, far from all rows their mean; files of earlier versions may
            have none or two.
    """

    fewest_rows = 2
    only_positive = True

    def __init__(self, prior_columns: tuple[int, ...] = ()) -> None:
        self.prior_columns = prior_columns

    def state(self) -> dict[str, NDArray[Any]]:
        """See `Regressor.state`; names of a curve's arrays end in its number."""
        curves = enumerate(self.curves_)
        arrays = {f"curve_{name}_{n}": np.asarray(getattr(curve, name)) for n, curve in curves for name in CURVE}
        return {**super().state(), **arrays}

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> Self:
        """See `Regressor.from_state`."""
        made = super().from_state(state)
        made.curves_ = tuple(_curve(number, state) for number in range(sum("curve_rows_" in name for name in state)))
        return made

    def left_out_residuals(self, apart: NDArray[np.bool_]) -> NDArray[np.float64]:
        """See `ShrunkenLinear.left_out_residuals`; each part leaves the rows out while the other stays as fitted."""
        check_is_fitted(self)
        means = self._target - self.corrected_.mean_.left_out_residuals(apart)
        logs = self._logs - self.corrected_.correction_.left_out_residuals(apart)
        left_out: NDArray[np.float64] = self._target - means * bounded(logs)
        return left_out

    def _learn(self, X: NDArray[np.float64], y: NDArray[np.float64]) -> None:
        # One length scale for all columns: tens of rows do not determine one for each.
        self.corrected_ = Corrected(ShrunkenLinear(self.prior_columns), Smooth(by_column=False)).fit(X, y)
        self.coef_, self.intercept_ = self.corrected_.mean_.coef_, self.corrected_.mean_.intercept_
        self.curves_: tuple[Curve, ...] = (self.corrected_.correction_.curve_,)
        self._target, self._logs = y, np.log(y / self.corrected_.means(X))

    def _answer(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        return super()._answer(X) * bounded(np.sum([curve(X) for curve in self.curves_], axis=0))


def _curve(number: int, state: Mapping[str, NDArray[Any]]) -> Curve:
    own = {name: state[f"curve_{name}_{number}"] for name in CURVE}
    return Curve(**{name: float(array) if array.ndim == 0 else array for name, array in own.items()})  # type: ignore[arg-type]
