"""Physical fit with a smooth, nonlinear correction."""

import warnings
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve
from scipy.spatial.distance import cdist
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from sklearn.utils.validation import check_is_fitted

from adaptare.core import InputError
from adaptare.predictor.estimators.estimator import Array, LinearEstimator
from adaptare.predictor.estimators.shrunken import ShrunkenLinear
from adaptare.predictor.regressor import rows_by_left_out_set

# A correction beyond this factor is an extrapolation.
LARGEST = 3.0
# Arrays of the correction and their names in the state.
CURVE = {name: f"curve_{name}_0" for name in ("rows", "weights", "centre", "scale", "level")}


class Curved(LinearEstimator):
    """y = (X coef_ + intercept_) exp(curve(X)): a shrunken linear fit and a Gaussian process on its log-ratio.

    For devices on which a cost has a knee: ranks that fill a tile, adapters that exceed the cache. The process has a
    Matern kernel (nu = 1.5) of standardised features, and one length scale for all, because tens of rows do not
    determine one for each. Far from all rows it is their mean, and the fit is linear.

    Args:
        prior_columns: Prior columns of the linear fit; see `ShrunkenLinear`.

    Attributes:
        coef_: Shape (n_features,).
        intercept_: The linear prediction at X = 0.
        curve_: curve(x) = level + sum_i weights_i k(|(x - centre) / scale - rows_i|), with these five arrays by name.

    References:
        Rasmussen, Williams 2006, "Gaussian processes for machine learning", eq. 2.27, 4.17 and 5.12.
    """

    fewest_rows = 2
    only_positive = True

    def __init__(self, prior_columns: tuple[int, ...] = ()) -> None:
        self.prior_columns = prior_columns

    def state(self) -> dict[str, NDArray[Any]]:
        return {**super().state(), **{name: self.curve_[own] for own, name in CURVE.items()}}

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> Self:
        made = super().from_state(state)
        made.curve_ = {own: state[name] for own, name in CURVE.items()}
        return made

    def left_out_residuals(self, apart: NDArray[np.bool_]) -> Array:
        """Residuals; each part leaves the rows out while the other stays as fitted."""
        check_is_fitted(self)
        left_out = np.empty(len(self._gains))
        for judged, rows in rows_by_left_out_set(apart):
            off = np.linalg.solve(self._precision[np.ix_(rows, rows)], self._gains[rows])
            left_out[judged] = off[np.isin(rows, judged)]
        means = self._target - self.linear_.left_out_residuals(apart)
        return self._target - means * _bounded(self._logs - self._unit * left_out)

    def _learn(self, X: Array, y: Array) -> None:
        if not (y > 0).all():
            raise InputError("a correction is a ratio, so every latency has to be above 0")
        self.linear_ = ShrunkenLinear(self.prior_columns).fit(X, y)
        self.coef_, self.intercept_ = self.linear_.coef_, self.linear_.intercept_
        self._target, self._logs = y, np.log(y / self._means(X))
        centre, spread, level = X.mean(axis=0), X.std(axis=0), self._logs.mean()
        scale, self._unit = np.where(spread > 0, spread, 1.0), float(self._logs.std()) or 1.0
        kernel = ConstantKernel(1.0, (1e-3, 1e2)) * Matern(2.0, (0.05, 1e3), nu=1.5) + WhiteKernel(0.05, (1e-6, 1.0))
        process = GaussianProcessRegressor(kernel, random_state=0)
        with warnings.catch_warnings():
            # A length scale at its bound only means that the features have no effect beyond the linear one.
            warnings.simplefilter("ignore", ConvergenceWarning)
            process.fit((X - centre) / scale, (self._logs - level) / self._unit)
        height, length = process.kernel_.k1.k1.constant_value, process.kernel_.k1.k2.length_scale
        self._gains: Array = process.alpha_
        self._precision: Array = cho_solve((process.L_, True), np.eye(len(y)))
        self.curve_: Mapping[str, NDArray[Any]] = {
            "rows": process.X_train_ / length,
            "weights": self._unit * height * process.alpha_,
            "centre": centre,
            "scale": scale * length,
            "level": np.array(level),
        }

    def _answer(self, X: Array) -> Array:
        curve = self.curve_
        distance = np.sqrt(3) * cdist((X - curve["centre"]) / curve["scale"], curve["rows"])
        return super()._answer(X) * _bounded(curve["level"] + (1 + distance) * np.exp(-distance) @ curve["weights"])

    def _means(self, X: Array) -> Array:
        """Linear predictions, kept above 0."""
        return np.maximum(super()._answer(X), np.finfo(np.float64).tiny ** 0.5)


def _bounded(logs: Array) -> Array:
    """Factors with these logarithms, clipped to the learnable range."""
    factors: Array = np.exp(np.clip(logs, -np.log(LARGEST), np.log(LARGEST)))
    return factors
