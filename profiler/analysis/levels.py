"""Two levels among openings (fresh loads of all programs): a program whose loads are fast or slow."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Levels that differ by less count as one: the difference is irrelevant for choosing adapters.
SAME = 0.02
# Openings at one level, and as a share of all; fewer are outliers.
LEAST, LEAST_SHARE = 2, 1 / 12
# Distance of the levels in standard deviations around them, for very many openings and more for few. Openings at one
# level, with normal offsets, exceed it in at most 3 % of sessions.
DISTANCE, MORE = 3.25, 24.0


@dataclass(frozen=True)
class Levels:
    """Two levels of a positive quantity over openings.

    Args:
        lower: Geometric mean of the openings at the lower level.
        upper: That of the others.
        share: Share of the openings at the upper level.
    """

    lower: float
    upper: float
    share: float


def levels_of(logs: NDArray[np.float64]) -> Levels | None:
    """Two levels, if the openings lie significantly closer to them than to one; `None` otherwise.

    The split into two groups that explains most of the variance is significant if its groups are far apart, compared
    with the spread inside them.

    Args:
        logs: Logarithm of the median of each opening. Shape (n_openings,).
    """
    n, ordered = len(logs), np.sort(logs)
    least = max(LEAST, math.ceil(LEAST_SHARE * n))
    below = np.arange(least, n - least + 1)
    if not len(below):
        return None
    sums = np.cumsum(ordered)
    lower, upper = sums[below - 1] / below, (sums[-1] - sums[below - 1]) / (n - below)
    explained = below * (n - below) / n * (upper - lower) ** 2
    best = int(np.argmax(explained))
    apart = float(upper[best] - lower[best])
    within = math.sqrt(max(0.0, n * float(np.var(logs)) - float(explained[best])) / (n - 2))
    if apart <= math.log1p(SAME) or apart <= (DISTANCE + MORE / n) * within:
        return None
    return Levels(math.exp(lower[best]), math.exp(upper[best]), float(1 - below[best] / n))
