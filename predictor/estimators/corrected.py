"""Physical fit whose residual is learned by a more flexible regressor."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

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
        means = self.means(X)
        self.correction_ = clone(self.correction).fit(self._seen(X, means), np.log(y / means))

    def _answer(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        means = self.means(X)
        return means * bounded(self.correction_.predict(self._seen(X, means)))

    def means(self, columns: NDArray[np.float64]) -> NDArray[np.float64]:
        """Predictions of the mean, above 0. Shape (n, n_features) -> (n,)."""
        mean: NDArray[np.float64] = self.mean_.predict(_some(columns, self.mean_columns))
        return np.maximum(mean, np.finfo(np.float64).tiny ** 0.5)

    def _seen(self, columns: NDArray[np.float64], means: NDArray[np.float64]) -> NDArray[np.float64]:
        seen = _some(columns, self.correction_columns)
        return seen / means[:, None] if self.per_mean else seen


def bounded(logs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Factors with these logarithms, clipped to the learnable range."""
    factors: NDArray[np.float64] = np.exp(np.clip(logs, -np.log(LARGEST), np.log(LARGEST)))
    return factors


def _some(columns: NDArray[np.float64], chosen: tuple[int, ...] | None) -> NDArray[np.float64]:
    return columns if chosen is None else columns[:, list(chosen)]
