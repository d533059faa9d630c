"""Device state from the latencies of the reference: changes of speed, rounds at the usual speed, and endurance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adaptare.profiler.analysis.noise import Noise

# Smallest change of the device's speed that is reported.
CHANGE = 0.05
# Largest spread of rounds at one speed. The steps of a processor's clock are at least this wide.
SAME_SPEED = 0.025
# Consecutive rounds that must agree before a change is reported, and their minimum distance in units of the noise.
AGREEING = 3
LEAST_BEFORE = 8
NOISES = 2.5


def changes(seconds: Sequence[float] | NDArray[np.float64]) -> list[int]:
    """Rounds at which the device had become significantly faster or slower than before.

    A change counts once three consecutive rounds lie more than 5 %, and more than 2.5 standard deviations of the noise,
    on the same side of the median since the last change; with autocorrelated noise the threshold grows with the
    variance of the mean of three rounds and of the median before them. Sudden changes are detected in their third
    round; slow ones once they reach the threshold.

    Args:
        seconds: Latency of the reference in each round. Shape (n_rounds,).
    """
    logs = np.log(seconds)
    if len(logs) < LEAST_BEFORE + AGREEING:
        return []
    noise = Noise.of(logs)
    changed: list[int] = []
    since = 0
    for end in range(LEAST_BEFORE + AGREEING, len(logs) + 1):
        recent, before = logs[end - AGREEING : end], logs[since : end - AGREEING]
        if len(before) < LEAST_BEFORE:
            continue
        off = recent - np.median(before)
        variance = noise.variance_of_mean(AGREEING) + noise.variance_of_mean(len(before))
        beyond = max(np.log1p(CHANGE), NOISES * np.sqrt(AGREEING * variance))
        if np.all(off > beyond) or np.all(off < -beyond):
            changed.append(end - 1)
            since = end - AGREEING
    return changed


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
