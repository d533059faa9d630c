"""Burst and sustained speed: a device that is cool at first may slow down while it is measured."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# With fewer openings, there is no end that differs from the beginning.
LEAST_OPENINGS = 3


@dataclass(frozen=True)
class Endurance:
    """Latency at the beginning and at the end of a session.

    Args:
        burst_s: Median over the rounds of the first opening (one fresh load of all programs), seconds.
        sustained_s: Median over the rounds of the last third of the openings, seconds.
    """

    burst_s: float
    sustained_s: float

    @property
    def slowdown(self) -> float:
        """Relative slowdown from the first to the second: 0.05 is 5 %."""
        return self.sustained_s / self.burst_s - 1.0


def endurance_of(seconds: Sequence[float] | NDArray[np.float64], openings: NDArray[np.int64]) -> Endurance | None:
    """Burst and sustained latency of one program; `None` for fewer than three openings.

    Args:
        seconds: Latency in each round, unscaled, in the order of time. Shape (n_rounds,).
        openings: Opening of each round. Shape (n_rounds,).
    """
    numbers = np.unique(openings)
    if len(numbers) < LEAST_OPENINGS:
        return None
    found, last = np.asarray(seconds), numbers[-(len(numbers) // 3) :]
    return Endurance(float(np.median(found[openings == numbers[0]])), float(np.median(found[np.isin(openings, last)])))
