"""Confidence intervals of a ratio from rounds that are neither independent nor from one opening."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

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
    """Median of the ratios with an interval by its bootstrap error over openings or, within one, blocks of rounds.

    The same program opened anew differs for as long as it is open, so with several openings whole openings are
    drawn; their rounds differ too, which carries the spread of the rounds along. Within one opening, rounds that
    follow each other share the state of the machine, so blocks of them are drawn. Drawing from k parts shows
    only (k - 1) / k of their variance and knows it from k values, so the error is scaled up for both. Percentiles of
    the drawn medians would lie too close together where rounds scatter more than few openings do.

    Args:
        ratios: Candidate over reference in each round. Shape (n_rounds,).
        openings: Which opening each round belongs to. Shape (n_rounds,).

    Returns:
        The median and a 95 % interval, symmetric in logarithms; the same input gives the same interval. One opening of
        so few rounds that they say nothing of their spread has an interval without ends.

    References:
        Kalibera and Jones 2013, "Rigorous benchmarking in reasonable time", section 6 (levels of repetition).
        Künsch 1989, "The jackknife and the bootstrap for general stationary observations" (blocks).
        Hesterberg 2015, "What teachers should know about the bootstrap", sections 4.2 and 5 (few parts; t with
        bootstrap standard error).
    """
    logs = np.log(ratios)
    middle = float(np.median(logs))
    rng = np.random.default_rng(0)
    rows = [np.flatnonzero(openings == label) for label in np.unique(openings)]
    # A worker that died leaves an opening of a few rounds, which says nothing about openings.
    longest = max(len(own) for own in rows)
    rows = [own for own in rows if 2 * len(own) >= longest]
    length = max(1, round(1.5 * longest ** (1 / 3)))
    if len(rows) == 1 and longest <= length:
        return Interval(0.0, float(np.exp(middle)), float("inf"))
    if len(rows) > 1:
        drawn, parts = _draw_openings(rows, rng), float(len(rows))
    else:
        drawn, parts = rows[0][_draw_blocks(longest, length, rng)], longest / length
    half = _errors_wide(parts) * np.std(np.median(logs[drawn], axis=1))
    return Interval(float(np.exp(middle - half)), float(np.exp(middle)), float(np.exp(middle + half)))


def _errors_wide(parts: float) -> float:
    """Half an interval in errors that a bootstrap over so many independent parts shows; 1.96 for very many."""
    parts = max(parts, 2.0)
    return float(np.sqrt(parts / (parts - 1)) * special.stdtrit(parts - 1, (1 + LEVEL) / 2))


def _draw_openings(rows: list[NDArray[np.int64]], rng: np.random.Generator) -> NDArray[np.int64]:
    """Row indices of resamples: whole openings with replacement, cut to the shortest. Shape (RESAMPLES, n)."""
    rounds = min(len(own) for own in rows)
    chosen = rng.integers(0, len(rows), size=(RESAMPLES, len(rows)))
    return np.stack([own[:rounds] for own in rows])[chosen].reshape(RESAMPLES, -1)


def _draw_blocks(n: int, length: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Row indices of resamples: circular blocks of rounds with replacement. Shape (RESAMPLES, n)."""
    starts = rng.integers(0, n, size=(RESAMPLES, -(-n // length)))
    positions = (starts[:, :, None] + np.arange(length)) % n
    return positions.reshape(RESAMPLES, -1)[:, :n]
