"""Confidence intervals of a ratio from rounds that share openings and the state of the machine."""

import math
import statistics
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

RESAMPLES = 1000
LEVEL = 0.95
# Share of the openings that each end of the trimmed mean leaves out: the interquartile mean. Where one of ten openings
# is far off, the squared error of six is half that of their mean. Where none is, its standard error is 9 % larger.
TRIMMED = 0.25
STANDARD_ERROR = 1.09


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

    @property
    def half_width(self) -> float:
        """Half the distance of the ends of a ratio, over 1 or the estimate, whichever is less."""
        return (self.upper - self.lower) / 2 / min(1.0, self.middle)

    def contains(self, value: float) -> bool:
        """Whether the value lies between the ends."""
        return self.lower <= value <= self.upper


def ratio_interval(ratios: NDArray[np.float64], openings: NDArray[np.int64]) -> Interval:
    """Typical ratio with a 95 % interval over openings or, within one, over blocks of rounds.

    The same program loaded anew differs for as long as it stays loaded, so openings are the independent samples: each
    gives the median of its rounds. The estimate is their interquartile mean, which one odd opening among several moves
    little, and the interval around it is as wide as Student's t of all of them, odd ones included. Within one
    opening, consecutive rounds share the state of the machine, so blocks of them are resampled; that interval says
    nothing about the next opening.

    Args:
        ratios: Candidate over reference in each round. Shape (n_rounds,).
        openings: Opening of each round. Shape (n_rounds,).

    Returns:
        Interquartile geometric mean of the openings' medians, or the median of the only one, with a 95 % interval
        symmetric in logarithms; the same input gives the same interval. One opening of too few rounds has an interval
        without ends.

    References:
        Kalibera and Jones 2013, "Rigorous benchmarking in reasonable time", section 6 (levels of repetition).
        Künsch 1989, "The jackknife and the bootstrap for general stationary observations" (blocks).
        Tukey and McLaughlin 1963, "Less vulnerable confidence and significance procedures for location" (trimming).
        Hesterberg 2015, "What teachers should know about the bootstrap", sections 4.2 and 5 (few parts; t with
        bootstrap standard error).
    """
    logs = np.log(ratios)
    rows = contributing(openings)
    medians = [statistics.median(logs[own].tolist()) for own in rows]
    middle = _trimmed_mean(np.array(medians))
    n = len(rows[0])
    length = max(1, round(1.5 * n ** (1 / 3)))
    if len(rows) > 1:
        half = _quantile(len(rows)) * STANDARD_ERROR * float(np.std(medians, ddof=1)) / np.sqrt(len(rows))
    elif n <= length:
        return Interval(0.0, float(np.exp(middle)), float("inf"))
    else:
        drawn = rows[0][_draw_blocks(n, length, np.random.default_rng(0))]
        # Resampling k blocks shows only (k - 1) / k of their variance.
        blocks = max(n / length, 2.0)
        half = _quantile(blocks) * np.sqrt(blocks / (blocks - 1)) * np.std(np.median(logs[drawn], axis=1))
    return Interval(float(np.exp(middle - half)), float(np.exp(middle)), float(np.exp(middle + half)))


def _trimmed_mean(values: NDArray[np.float64]) -> float:
    """Mean without a share of `TRIMMED` at either end, values counted in part where that is no whole number of them."""
    kept = np.clip(np.arange(1, len(values) + 1) - TRIMMED * len(values), 0.0, 1.0)
    weights = np.minimum(kept, kept[::-1])
    return float(np.sort(values) @ weights / weights.sum())


def contributing(openings: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Row indices of each opening that counts: a worker that died leaves a few rounds, which do not.

    Args:
        openings: Opening of each round. Shape (n_rounds,).
    """
    rows = [np.flatnonzero(openings == label) for label in np.unique(openings)]
    longest = max(len(own) for own in rows)
    return [own for own in rows if 2 * len(own) >= longest]


def openings_needed(half_width: float, openings: int, wanted: float) -> int:
    """Openings after which an interval of this half-width over so many is as narrow as wanted, if they go on as before.

    Args:
        half_width: Of the present interval.
        openings: At least 2.
        wanted: Above 0.
    """
    needed = openings
    while half_width * math.sqrt(openings / needed) * _quantile(needed) / _quantile(openings) > wanted:
        needed = math.ceil(1.05 * needed)
    return needed


def _quantile(parts: float) -> float:
    """Half of an interval in standard errors, known from so many independent parts; 1.96 for very many."""
    return float(special.stdtrit(parts - 1, (1 + LEVEL) / 2))


def _draw_blocks(n: int, length: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Row indices of resamples: circular blocks of rounds with replacement. Shape (RESAMPLES, n)."""
    starts = rng.integers(0, n, size=(RESAMPLES, -(-n // length)))
    positions = (starts[:, :, None] + np.arange(length)) % n
    return positions.reshape(RESAMPLES, -1)[:, :n]
