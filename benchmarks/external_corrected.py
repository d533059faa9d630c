"""Physical fit whose residual is learned by a more flexible regressor, and a smooth function of few features."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from adaptare.core import InputError
from adaptare.predictor.estimators.estimator import Estimator

# A correction beyond this factor is an extrapolation.
LARGEST = 3.0


class Corrected(Estimator):
    """y = mean(X) exp(correction(Z)), both fitted one after the other.

    Learning the ratio instead of the latency keeps a flexible model from diverging outside the training rows, where it
    falls back to the physical fit.

    Args:
        mean: A regressor of y, whose predictions are above 0.
        correction: A regressor of log(y / mean).
        mean_columns: Columns of X used by the mean; default: all.
        correction_columns: Columns used by the correction; default: all.
        per_mean: True if the correction is given Z = X / mean(X): a linear correction of relative size, such as the
            costs of single kinds of operators; else Z = X.

    Attributes:
        mean_: The fitted mean.
        correction_: The fitted correction.
    """

    only_positive = True

    def __init__(
        self,
        mean: Any,
        correction: Any,
        mean_columns: tuple[int, ...] | None = None,
        correction_columns: tuple[int, ...] | None = None,
        per_mean: bool = False,
    ) -> None:
        self.mean = mean
        self.correction = correction
        self.mean_columns = mean_columns
        self.correction_columns = correction_columns
        self.per_mean = per_mean

    def _learn(self, X: NDArray[np.float64], y: NDArray[np.float64]) -> None:
        if not (y > 0).all():
            raise InputError("a correction is a ratio, so every latency has to be above 0")
        self.mean_ = clone(self.mean).fit(_some(X, self.mean_columns), y)
        means = self._means(X)
        self.correction_ = clone(self.correction).fit(self._seen(X, means), np.log(y / means))

    def _answer(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        means = self._means(X)
        logs = np.clip(self.correction_.predict(self._seen(X, means)), -np.log(LARGEST), np.log(LARGEST))
        return means * np.exp(logs)

    def _means(self, columns: NDArray[np.float64]) -> NDArray[np.float64]:
        mean: NDArray[np.float64] = self.mean_.predict(_some(columns, self.mean_columns))
        return np.maximum(mean, np.finfo(np.float64).tiny ** 0.5)

    def _seen(self, columns: NDArray[np.float64], means: NDArray[np.float64]) -> NDArray[np.float64]:
        seen = _some(columns, self.correction_columns)
        return seen / means[:, None] if self.per_mean else seen


class Smooth(Estimator):
    """Gaussian process whose noise and length scales, one for each column, maximise the marginal likelihood.

    Columns are standardised and y is centred, so far from any row it predicts the mean of y.

    Args:
        nu: Smoothness of the Matern kernel; infinity: the squared exponential.

    References:
        Rasmussen, Williams 2006, "Gaussian processes for machine learning", chapters 4 and 5.
    """

    def __init__(self, nu: float = 1.5) -> None:
        self.nu = nu

    def _learn(self, X: NDArray[np.float64], y: NDArray[np.float64]) -> None:
        spread = X.std(axis=0)
        self.centre_, self.scale_ = X.mean(axis=0), np.where(spread > 0, spread, 1.0)
        self.level_, self.unit_ = float(y.mean()), float(y.std()) or 1.0
        matern = Matern(np.full(X.shape[1], 2.0), length_scale_bounds=(0.05, 1e3), nu=self.nu)
        kernel = ConstantKernel(1.0, (1e-3, 1e2)) * matern + WhiteKernel(0.05, (1e-6, 1.0))
        with warnings.catch_warnings():
            # A length scale at its bound only means that the column has no effect.
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.process_ = GaussianProcessRegressor(kernel, random_state=0).fit(
                (X - self.centre_) / self.scale_, (y - self.level_) / self.unit_
            )

    def _answer(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        predicted: NDArray[np.float64] = self.process_.predict((X - self.centre_) / self.scale_)
        return self.level_ + self.unit_ * predicted


def _some(columns: NDArray[np.float64], chosen: tuple[int, ...] | None) -> NDArray[np.float64]:
    return columns if chosen is None else columns[:, list(chosen)]
