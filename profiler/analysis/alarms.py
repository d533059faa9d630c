"""What the reference says about the machine: when it changed, and in which rounds it ran at its usual speed."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from adaptare.profiler.analysis.noise import Noise

# A change of the machine that is worth a word.
CHANGE = 0.05
# Rounds no further apart than that ran at one speed. The steps of a processor's clock are as wide, or wider.
SAME_SPEED = 0.025
# Rounds that have to agree, before which nothing is said, and how far beyond the usual noise they have to lie.
AGREEING = 3
LEAST_BEFORE = 8
NOISES = 2.5


def changes(seconds: Sequence[float] | NDArray[np.float64]) -> list[int]:
    """Rounds by which the machine had become faster or slower than it was before, for longer than by chance.

    A change counts once three rounds in a row lie more than 5 %, and more than 2.5 standard deviations of the noise, on
    the same side of the median since the change before; further where noise is autocorrelated, by as much as that
    makes the mean of three rounds and the median before them vary more. Fast changes are seen in their third round;
    slow ones as soon as they have come to so much.

    Args:
        seconds: Of the reference in each round. Shape (n_rounds,).
    """
    logs = np.log(seconds)
    if len(logs) < LEAST_BEFORE + AGREEING:
        return []
    noise = Noise.of(logs)
    found: list[int] = []
    since = 0
    for end in range(LEAST_BEFORE + AGREEING, len(logs) + 1):
        recent, before = logs[end - AGREEING : end], logs[since : end - AGREEING]
        if len(before) < LEAST_BEFORE:
            continue
        off = recent - np.median(before)
        variance = noise.variance_of_mean(AGREEING) + noise.variance_of_mean(len(before))
        beyond = max(np.log1p(CHANGE), NOISES * np.sqrt(AGREEING * variance))
        if np.all(off > beyond) or np.all(off < -beyond):
            found.append(end - 1)
            since = end - AGREEING
    return found


def stable_rounds(seconds: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Rounds at the speed that the machine ran at most often: those that absolute times are taken from.

    A processor runs at one of several speeds for a while, some faster than usual, some slower. As many rounds as lie
    within 2.5 % of each other are those of the usual one; of two as usual, the faster.

    Args:
        seconds: Of one program in each round. Shape (n_rounds,).
    """
    ordered = np.sort(seconds)
    together = np.searchsorted(ordered, (1 + SAME_SPEED) * ordered, side="right") - np.arange(len(ordered))
    fastest = ordered[np.argmax(together)]
    return np.asarray((seconds >= fastest) & (seconds <= (1 + SAME_SPEED) * fastest))
