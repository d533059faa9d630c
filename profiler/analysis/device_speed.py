"""Device state from the latencies of the reference: rounds at the usual speed, and endurance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Largest spread of rounds at one speed. The steps of a processor's clock are at least this wide.
SAME_SPEED = 0.025


def stable_rounds(seconds: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Rounds at the most frequent speed of the device, from which absolute times are taken.

    A processor runs at one of several speeds for a while, some faster than usual, some slower. The largest set of
    rounds within 2.5 % of each other defines the usual speed; of two equally frequent ones, the faster.

    Args:
        seconds: Latency of one program in each round. Shape (n_rounds,).
    """
    ordered = np.sort(seconds)
    together = np.searchsorted(ordered, (1 + SAME_SPEED) * ordered, side="right") - np.arange(len(ordered))
    fastest = ordered[np.argmax(together)]
    return np.asarray((seconds >= fastest) & (seconds <= (1 + SAME_SPEED) * fastest))


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
    """Burst and sustained latency, from unscaled seconds and the opening of each round; `None` below three openings."""
    numbers = np.unique(openings)
    if len(numbers) < LEAST_OPENINGS:
        return None
    found, last = np.asarray(seconds), numbers[-(len(numbers) // 3) :]
    return Endurance(float(np.median(found[openings == numbers[0]])), float(np.median(found[np.isin(openings, last)])))
