"""Predictions with intervals."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adaptare.profiler.analysis import Interval


@dataclass(frozen=True, eq=False)
class Prediction:
    """Predicted value of n configurations, each with an interval, in the unit of the predictor: seconds of latency.

    Args:
        mean: Shape (n,).
        lower: Lower end of the interval. Shape (n,).
        upper: Upper end of the interval; the end that must meet a budget. Shape (n,).
        extrapolates: True if a configuration lies outside the profiled range, where the interval is not valid. Shape
            (n,).
    """

    mean: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    extrapolates: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.mean)

    def interval(self, row: int) -> Interval:
        """Predicted value of one configuration."""
        return Interval(float(self.lower[row]), float(self.mean[row]), float(self.upper[row]))
