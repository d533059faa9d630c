"""Confidence intervals of a ratio, from rounds that share openings (fresh loads of all programs) and device state."""

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from adaptare.profiler.analysis.levels import levels_of

RESAMPLES = 1000
# An interval over fewer openings depends on luck more than on the program.
LEAST_OPENINGS = 4
LEVEL = 0.95
# Share of the openings trimmed at each end: the interquartile mean. If one of ten openings is an outlier, its squared
# error for six openings is half that of the mean. Without outliers, its standard error is 9 % larger. If openings have
# two levels, it changes with their shares twice as fast as the mean.
TRIMMED = 0.25
STANDARD_ERROR, OF_TWO_LEVELS = 1.09, 2.0


@dataclass(frozen=True)
class Interval:
    """An estimate with the lower and upper end of its interval."""

    lower: float
    middle: float
    upper: float

    @classmethod
    def from_json(cls, content: Mapping[str, float | None]) -> "Interval":
        """Inverse of the JSON form, in which ends that are unknown or infinite may be null."""
        ends = [content[name] for name in ("lower", "middle", "upper")]
        if len(content) != len(ends) or not all(end is None or type(end) in (int, float) for end in ends):
            raise ValueError(f"an interval is three numbers, lower, middle and upper, not {content}")
        unknown = (-math.inf, math.nan, math.inf)
        return cls(*(float(other if end is None else end) for end, other in zip(ends, unknown, strict=True)))

    @property
    def half_width(self) -> float:
        """Half-width of the interval of a ratio, relative to 1 or to the estimate, whichever is less."""
        return (self.upper - self.lower) / 2 / min(1.0, self.middle)

    @property
    def over_one(self) -> "Interval":
        """Interval of a ratio minus one."""
        return Interval(self.lower - 1, self.middle - 1, self.upper - 1)

    def at(self, confidence: float, *, openings: int) -> "Interval":
        """The 95 % interval of a positive quantity over openings at another confidence; unchanged if it is infinite."""
        if openings < 2 or not math.isfinite(self.upper):
            return self
        half = math.log(self.upper / self.middle) * _quantile(openings, confidence) / _quantile(openings)
        return Interval(self.middle * math.exp(-half), self.middle, self.middle * math.exp(half))

    def contains(self, value: float) -> bool:
        """True if the value lies within the interval."""
        return self.lower <= value <= self.upper

    def ends(self, text: Callable[[float], str], *, too_few_openings: int = 0) -> str:
        """Both ends as text, or the number of openings (fresh loads of the program) if these are too few."""
        few = f"too few openings: {too_few_openings}" if too_few_openings else ""
        return few or f"[{text(self.lower)}, {text(self.upper)}]"


def ratio_interval(ratios: NDArray[np.float64], openings: NDArray[np.int64]) -> Interval:
    """Typical ratio with a 95 % interval over openings or, within a single one, over blocks of rounds.

    A reloaded program has a different latency for as long as it stays loaded, so openings are the independent samples:
    each contributes the median of its rounds. The estimate is their interquartile mean, which is robust to a single
    outlier among several, and the interval around it is as wide as that of Student's t for all of them, including
    outliers. Within one opening, consecutive rounds share the state of the machine, so blocks of them are resampled;
    that interval does not generalise to the next opening.

    Args:
        ratios: Ratio of candidate to reference in each round. Shape (n_rounds,).
        openings: Opening of each round. Shape (n_rounds,).

    Returns:
        Interquartile geometric mean of the openings' medians, or the median of the only one, with a 95 % interval
        symmetric in logarithms; deterministic for the same input. A single opening with too few rounds has an infinite
        interval.

    References:
        Kalibera and Jones 2013, "Rigorous benchmarking in reasonable time", section 6 (levels of repetition).
        Künsch 1989, "The jackknife and the bootstrap for general stationary observations" (blocks).
        Tukey and McLaughlin 1963, "Less vulnerable confidence and significance procedures for location" (trimming).
        Hesterberg 2015, "What teachers should know about the bootstrap", sections 4.2 and 5 (few parts; t with
        bootstrap standard error).
    """
    logs = np.log(ratios)
    rows, medians = contributing(openings), opening_logs(ratios, openings)
    middle = _trimmed_mean(medians)
    n = len(rows[0])
    length = max(1, round(1.5 * n ** (1 / 3)))
    if len(rows) > 1:
        error = OF_TWO_LEVELS if levels_of(medians) else STANDARD_ERROR
        half = _quantile(len(rows)) * error * float(np.std(medians, ddof=1)) / np.sqrt(len(rows))
    elif n <= length:
        return Interval(0.0, float(np.exp(middle)), float("inf"))
    else:
        drawn = rows[0][_draw_blocks(n, length, np.random.default_rng(0))]
        # Resampling k blocks reproduces only (k - 1) / k of their variance.
        blocks = max(n / length, 2.0)
        half = _quantile(blocks) * np.sqrt(blocks / (blocks - 1)) * np.std(np.median(logs[drawn], axis=1))
    return Interval(float(np.exp(middle - half)), float(np.exp(middle)), float(np.exp(middle + half)))


def opening_logs(ratios: NDArray[np.float64], openings: NDArray[np.int64]) -> NDArray[np.float64]:
    """Logarithm of the median of each opening that counts; arguments as of `ratio_interval`."""
    logs = np.log(ratios)
    return np.array([statistics.median(logs[own].tolist()) for own in contributing(openings)])


def _trimmed_mean(values: NDArray[np.float64]) -> float:
    """Mean after trimming a share of `TRIMMED` at either end; values at the boundary are weighted fractionally."""
    kept = np.clip(np.arange(1, len(values) + 1) - TRIMMED * len(values), 0.0, 1.0)
    weights = np.minimum(kept, kept[::-1])
    return float(np.sort(values) @ weights / weights.sum())


def contributing(openings: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Row indices of each opening that counts; an opening cut short by the death of its worker does not."""
    rows = [np.flatnonzero(openings == label) for label in np.unique(openings)]
    longest = max(len(own) for own in rows)
    return [own for own in rows if 2 * len(own) >= longest]


def too_few(openings: int) -> int:
    """The number of openings if it is too small for an interval to be a result; else 0."""
    return openings if openings < LEAST_OPENINGS else 0


def openings_needed(half_width: float, openings: int, wanted: float) -> int:
    """Openings at which an interval over 2 or more is as narrow as wanted, if the spread between openings stays."""
    needed = openings
    while half_width * math.sqrt(openings / needed) * _quantile(needed) / _quantile(openings) > wanted:
        needed = math.ceil(1.05 * needed)
    return needed


def _quantile(parts: float, level: float = LEVEL) -> float:
    """Half-width of an interval in standard errors, estimated from independent parts; 1.96 for very many."""
    return float(special.stdtrit(parts - 1, (1 + level) / 2))


def _draw_blocks(n: int, length: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Row indices of resamples: circular blocks of rounds with replacement. Shape (RESAMPLES, n)."""
    starts = rng.integers(0, n, size=(RESAMPLES, -(-n // length)))
    positions = (starts[:, :, None] + np.arange(length)) % n
    return positions.reshape(RESAMPLES, -1)[:, :n]


Verdict = Literal["faster", "slower", "same", "ambiguous"]

EQUIVALENCE_BAND = 0.01


def verdict(overhead: Interval, *, band: float = EQUIVALENCE_BAND, too_few: bool = False) -> Verdict:
    """Classifies an overhead.

    `same`: the whole interval lies within the band around zero, so any difference is negligible. `slower` and `faster`:
    the interval excludes zero, and is not within the band. Otherwise `ambiguous`: more samples are needed.

    Args:
        overhead: Relative difference; 0.05 is 5 % slower.
        band: Half-width of the equivalence band.
        too_few: True if openings are too few for an interval, which decide nothing.
    """
    if too_few:
        return "ambiguous"
    if -band <= overhead.lower and overhead.upper <= band:
        return "same"
    if overhead.lower > 0:
        return "slower"
    if overhead.upper < 0:
        return "faster"
    return "ambiguous"
