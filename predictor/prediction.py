"""Predicted latencies."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Prediction:
    """Predicted latency of n configurations, each with an interval.

    Args:
        mean_s: Shape (n,), seconds.
        lower_s: Lower end of the interval. Shape (n,), seconds.
        upper_s: Upper end of the interval; the end that must meet a budget. Shape (n,), seconds.
        extrapolates: True if a configuration lies outside the profiled range, where the interval is not valid. Shape
            (n,).
    """

    mean_s: NDArray[np.float64]
    lower_s: NDArray[np.float64]
    upper_s: NDArray[np.float64]
    extrapolates: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.mean_s)

    def interval_s(self, row: int) -> tuple[float, float, float]:
        """Middle, lower and upper end of the predicted latency of one configuration, seconds."""
        return float(self.mean_s[row]), float(self.lower_s[row]), float(self.upper_s[row])
