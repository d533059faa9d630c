"""Agreement of two measurements of one quantity, each from several processes or openings: Welch's t on logarithms."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.95
# Standard error of a median over that of a mean, for normal noise.
MEDIAN_OVER_MEAN = float(np.sqrt(np.pi / 2))


@dataclass(frozen=True)
class Estimate:
    """Logarithm of a positive quantity.

    Args:
        log: The estimate.
        error: Its standard error.
        freedom: Degrees of freedom of the error.
    """

    log: float
    error: float
    freedom: float

    @classmethod
    def of_samples(cls, samples: Sequence[float], *, middle: float | None = None) -> "Estimate":
        """Median of independent samples, with the error that their spread gives.

        Args:
            samples: One for each process or opening, positive.
            middle: The estimate, if it was computed from more than these samples.
        """
        if len(samples) < 2:
            raise ValueError(f"the spread of processes or openings needs at least 2 of them, not {len(samples)}")
        logs = np.log(np.asarray(samples, dtype=np.float64))
        log = float(np.median(logs)) if middle is None else float(np.log(middle))
        error = MEDIAN_OVER_MEAN * float(logs.std(ddof=1)) / len(logs) ** 0.5
        return cls(log, error, len(logs) - 1)

    def over(self, other: "Estimate") -> "Estimate":
        """This over the other; degrees of freedom by Welch and Satterthwaite."""
        variances = np.array([self.error**2, other.error**2])
        parts = variances**2 / np.array([self.freedom, other.freedom])
        freedom = float(variances.sum() ** 2 / parts.sum()) if parts.sum() else self.freedom + other.freedom
        return Estimate(self.log - other.log, float(np.sqrt(variances.sum())), freedom)

    @property
    def interval(self) -> tuple[float, float, float]:
        """The quantity between the ends of its 95 % interval: lower, middle, upper."""
        half = self.error * float(stats.t.ppf((1 + LEVEL) / 2, self.freedom))
        lower, middle, upper = np.exp([self.log - half, self.log, self.log + half])
        return float(lower), float(middle), float(upper)


def overhead_difference(ours: Estimate, theirs: Estimate) -> tuple[float, float, float]:
    """Our overhead minus theirs between the ends of its 95 % interval, as shares of the base's latency.

    Args:
        ours: Latency with the adapter over that of the base.
        theirs: The same.
    """
    scale = float(np.exp(theirs.log))
    lower, middle, upper = (scale * (end - 1) for end in ours.over(theirs).interval)
    return lower, middle, upper
