"""Time of one kernel: a launch plus the longer of arithmetic and memory time."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from adaptare.core import InputError
from adaptare.predictor.estimators.estimator import Estimator

# Between the sum of both times (1) and the longer one (infinity); they overlap partly.
SHARPNESS = 4.0
# Relative errors above this count linearly, not squared: the runtime may switch to another kernel.
OUTLIER = 0.1


class Roofline(Estimator):
    """y = launch + ((memory * t_m)^p + (arithmetic * t_a)^p)^(1/p), with p = 4.

    The columns t_m and t_a are the times of a call at the rates of the data sheet: bytes over bandwidth and FLOPs over
    the peak, or bytes and FLOPs themselves; the fitted factors are then the share of them reached, or the rates.

    Args:
        memory: Column of bytes.
        arithmetic: Column of FLOPs.

    Attributes:
        launch_: Launch time, in units of y.
        factors_: Factors of memory and arithmetic: y per unit of the column.

    References:
        Williams, Waterman, Patterson 2009, "Roofline: an insightful visual performance model".
    """

    fewest_rows, fewest_columns = 3, 2
    only_positive = only_latencies = True  # not everything is the time of a kernel

    def __init__(self, memory: int = 0, arithmetic: int = 1) -> None:
        self.memory = memory
        self.arithmetic = arithmetic

    def _learn(self, X: NDArray[np.float64], y: NDArray[np.float64]) -> None:
        """Least squares in log(y), robust; no column below 0, y above 0."""
        work = X[:, [self.memory, self.arithmetic]]
        if (work < 0).any():
            raise InputError("Negative values in data passed to a roofline, which are bytes and FLOPs")
        if not (work > 0).any(axis=0).all() or not (y > 0).all():
            raise InputError("a roofline needs bytes and FLOPs that are not 0 in all rows, and latencies above 0")
        target = np.log(y)

        def off(logs: NDArray[np.float64]) -> NDArray[np.float64]:
            residuals: NDArray[np.float64] = np.log(_time(work, np.exp(logs))) - target
            return residuals

        # Start: a launch equal to the fastest row, and memory and arithmetic that each explain the slowest rows alone.
        launch, slow = target.min(), target >= np.quantile(target, 0.7)
        alone = (column[slow] if column[slow].all() else np.full(1, column.max()) for column in work.T)
        each = np.array([np.median(target[slow] - np.log(column)) for column in alone])
        starts = [np.array([launch, *(each - less)]) for less in (0.0, 1.0)]
        fits = [least_squares(off, start, loss="soft_l1", f_scale=OUTLIER) for start in starts]
        found = np.exp(min(fits, key=lambda fit: float(fit.cost)).x)
        self.launch_ = float(found[0])
        self.factors_: NDArray[np.float64] = found[1:]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        return tags

    def _answer(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        return _time(X[:, [self.memory, self.arithmetic]], np.array([self.launch_, *self.factors_]))


def _time(work: NDArray[np.float64], parameters: NDArray[np.float64]) -> NDArray[np.float64]:
    both: NDArray[np.float64] = ((work * parameters[1:]) ** SHARPNESS).sum(axis=1) ** (1 / SHARPNESS)
    total: NDArray[np.float64] = parameters[0] + both
    return total
