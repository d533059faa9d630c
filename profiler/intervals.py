"""Confidence intervals of a ratio from rounds that are neither independent nor from one opening."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """An estimate between its two ends."""

    lower: float
    middle: float
    upper: float

    @property
    def relative_half_width(self) -> float:
        """Half the distance of the ends over the estimate."""
        return (self.upper - self.lower) / 2 / abs(self.middle) if self.middle else float("inf")

    def contains(self, value: float) -> bool:
        """Whether the value lies between the ends."""
        return self.lower <= value <= self.upper


def ratio_interval(ratios: NDArray[np.float64], openings: NDArray[np.int64]) -> Interval:
    """Median of the ratios with a bootstrap interval over openings, then blocks of rounds.

    Rounds that follow each other share the state of the machine, so blocks of them are drawn; the same program
    opened anew differs for as long as it is open, so openings are drawn first. Drawing from k openings shows
    only (k - 1) / k of the variance between them, which the spread is scaled up for.

    Args:
        ratios: Candidate over reference in each round. Shape (n_rounds,).
        openings: Which opening each round belongs to. Shape (n_rounds,).

    Returns:
        The median and a 95 % percentile interval of log ratios; the same input gives the same interval.

    References:
        Kalibera and Jones 2013, "Rigorous benchmarking in reasonable time", section 6 (levels of repetition).
        Künsch 1989, "The jackknife and the bootstrap for general stationary observations" (blocks).
    """
    logs = np.log(ratios)
    middle = float(np.median(logs))
    rng = np.random.default_rng(0)
    labels = np.unique(openings)
    indices = [np.flatnonzero(openings == label) for label in labels]
    drawn = _draw_blocks(indices[0], RESAMPLES, rng) if len(labels) == 1 else _draw_openings(indices, rng)
    medians = np.median(logs[drawn], axis=1)
    scale = np.sqrt(len(labels) / (len(labels) - 1)) if len(labels) > 1 else 1.0
    spread = middle + scale * (medians - middle)
    tail = 100 * (1 - LEVEL) / 2
    lower, upper = np.percentile(spread, [tail, 100 - tail])
    return Interval(float(np.exp(min(lower, middle))), float(np.exp(middle)), float(np.exp(max(upper, middle))))


def _draw_openings(indices: list[NDArray[np.int64]], rng: np.random.Generator) -> NDArray[np.int64]:
    """Row indices of resamples: openings with replacement, blocks of rounds within each. Shape (RESAMPLES, n)."""
    rounds = min(len(rows) for rows in indices)
    within = np.stack([_draw_blocks(rows, RESAMPLES, rng)[:, :rounds] for rows in indices])
    chosen = rng.integers(0, len(indices), size=(RESAMPLES, len(indices)))
    picked = within[chosen, np.arange(RESAMPLES)[:, None]]
    return picked.reshape(RESAMPLES, -1)


def _draw_blocks(rows: NDArray[np.int64], resamples: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Circular blocks of about the cube root of the number of rounds. Shape (resamples, len(rows))."""
    n = len(rows)
    length = max(1, round(n ** (1 / 3)))
    blocks = -(-n // length)
    starts = rng.integers(0, n, size=(resamples, blocks))
    positions = (starts[:, :, None] + np.arange(length)) % n
    return rows[positions.reshape(resamples, -1)[:, :n]]
