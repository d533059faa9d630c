"""Autocorrelated noise of a time series, estimated robustly against level changes in the series."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Differences at this lag are nearly those of independent values; longer ones span more changes of the level.
LAG = 4
# Differences beyond this many standard deviations are attributed to a change or a spike, and clipped.
LARGEST = 3.0
# Stronger correlation cannot be distinguished from a changing level; see `strongly_autocorrelated` of
# benchmarks/profiling.py.
MOST_CORRELATED = 0.9
TO_SIGMA = 1.4826


@dataclass(frozen=True)
class Noise:
    """First-order autoregressive noise on logarithms of seconds; `correlation` is that of consecutive values."""

    sigma: float
    correlation: float

    @classmethod
    def of(cls, logs: NDArray[np.float64], *, least_correlation: float = 0.0) -> "Noise":
        """Estimates noise from differences of values a few rounds apart, few of which span a change of the level.

        Differences over two rounds have 1 + correlation times the variance of those over one. The estimate is raised by
        its standard error, about one over the square root of the length: a missed alarm costs less than a false one.

        Args:
            logs: Shape (n,), more than `LAG` of them.
            least_correlation: Lower bound of the estimate.

        References:
            Chakar, Lebarbier, Lévy-Leduc, Robin 2017, "A robust approach for estimating change-points in the mean of an
            AR(1) process", section 2 (the ratio of differences; here of winsorised squares, which vary less).
        """
        near, far = np.abs(logs[1:] - logs[:-1]), np.abs(logs[2:] - logs[:-2])
        largest = LARGEST * TO_SIGMA * np.median(near)
        squares = [float(np.mean(np.minimum(deviations, largest) ** 2)) for deviations in (near, far)]
        estimate = squares[1] / squares[0] - 1 + len(logs) ** -0.5 if squares[0] else 0.0
        correlation = float(np.clip(estimate, least_correlation, MOST_CORRELATED))
        apart = TO_SIGMA * float(np.median(np.abs(logs[LAG:] - logs[:-LAG])))
        return cls(apart / float(np.sqrt(2)), correlation)

    def variance_of_mean(self, n: NDArray[np.int64] | int) -> NDArray[np.float64]:
        """Variance of the mean of `n` consecutive values. Shape of `n`."""
        rho, many = self.correlation, np.asarray(n, dtype=np.float64)
        memory = (1 + rho) / (1 - rho) - 2 * rho * (1 - rho**many) / (many * (1 - rho) ** 2)
        return np.asarray(self.sigma**2 * memory / many)
