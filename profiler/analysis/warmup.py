"""Levels of a time series: its steady state, instead of a fixed number of warm-up calls, and changes of speed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from adaptare.profiler.analysis.intervals import LEAST_OPENINGS, contributing, ratio_interval
from adaptare.profiler.analysis.noise import Noise

Trend = Literal["flat", "warm-up", "slowdown", "no steady state"]

# Levels whose medians differ by less count as one: the difference is irrelevant for choosing adapters.
SAME = 0.02
# Smallest change of the device's speed that is reported.
CHANGE = 0.05
# A change must explain more than chance would: in units of the variance of a rank, times log n.
PENALTY = 3.0
# Consecutive rounds share the state of the machine; so few of them cannot show a lower correlation.
LEAST_CORRELATED = 0.7
# A steady state covers at least this share of the series.
LEAST_STEADY = 0.5


@dataclass(frozen=True)
class Steadiness:
    """Course of a time series.

    Args:
        trend: `flat`: one level, with any noise; `warm-up`: slower at first; `slowdown`: faster at first;
            `no steady state`: still changing in the second half.
        start: Index of the first value of the final level; 0 unless it is a warm-up or a slowdown.
    """

    trend: Trend
    start: int = 0


def steadiness(seconds: NDArray[np.float64]) -> Steadiness:
    """Segments a series into levels and classifies its course from the first to the last.

    Args:
        seconds: Times in the order of measurement. Shape (n,); no value is left out.

    References:
        Barrett et al. 2017, "Virtual machine warmup blows hot and cold" (the classes).
    """
    starts, levels = _levels(seconds)
    ends = [*starts[1:], len(seconds)]
    unequal = np.flatnonzero(np.abs(levels - levels[-1]) > SAME)
    if not len(unequal):
        return Steadiness("flat")
    start = ends[unequal[-1]]
    if len(seconds) - start < LEAST_STEADY * len(seconds):
        return Steadiness("no steady state")
    if abs(levels[0] - levels[-1]) <= SAME:
        return Steadiness("flat")  # a temporary disturbance
    return Steadiness("warm-up" if levels[0] > levels[-1] else "slowdown", start)


def common_warmup(seconds: NDArray[np.float64], openings: NDArray[np.int64]) -> int:
    """Rounds at the start of every opening that are slower than the second half of the openings.

    A short opening has too few rounds to show its warm-up, but all openings begin in the same way. A round is one of
    the warm-up if the interval of its ratio to the second half, over openings, lies above `SAME`.

    Args:
        seconds: Latency in each round. Shape (n_rounds,).
        openings: The opening of each round. Shape (n_rounds,).
    """
    rows = contributing(openings)
    if len(rows) < LEAST_OPENINGS:
        return 0
    steady = np.array([np.median(seconds[own[len(own) // 2 :]]) for own in rows])
    most = min(map(len, rows)) // 2
    for number in range(most):
        ratios = seconds[[own[number] for own in rows]] / steady
        if ratio_interval(ratios, np.arange(len(rows))).lower <= 1 + SAME:
            return number
    return most


def speed_changes(seconds: Sequence[float] | NDArray[np.float64]) -> list[int]:
    """Rounds from which on the device was more than 5 % faster or slower than before.

    Args:
        seconds: Latency of the reference in each round. Shape (n_rounds,), at least one.
    """
    starts, levels = _levels(np.asarray(seconds))
    changed, before = list[int](), levels[0]
    for start, level in zip(starts, levels, strict=True):
        if abs(level - before) > np.log1p(CHANGE):
            changed.append(start)
            before = level
    return changed


def _levels(seconds: NDArray[np.float64]) -> tuple[list[int], NDArray[np.float64]]:
    """Start of each level, and the logarithm of its median.

    Changes are detected in the ranks of the values, so neither spikes nor the noise distribution matter. Change
    detection for independent values also reports the excursions of autocorrelated noise, so two levels remain separate
    only if such noise is unlikely to explain their distance.

    References:
        Killick, Fearnhead, Eckley 2012, "Optimal detection of changepoints with a linear computational cost", section 2
        (the partition); Haynes, Fearnhead, Eckley 2017, "A computationally efficient nonparametric approach for
        changepoint detection" (without a model of the noise).
        Romano, Rigaill, Runge, Fearnhead 2022, "Detecting abrupt changes in the presence of local fluctuations and
        autocorrelated noise" (what becomes of a search that takes values for independent).
    """
    starts = _beyond_noise(_changes(seconds), np.log(seconds))
    medians = [np.median(level) for level in np.split(seconds, starts[1:])]
    return starts, np.log(medians)


def _beyond_noise(starts: list[int], logs: NDArray[np.float64]) -> list[int]:
    """Joins the two most similar neighbouring levels, until all neighbours differ by more than noise explains."""
    if len(starts) == 1:
        return starts
    noise = Noise.of(logs, least_correlation=LEAST_CORRELATED)
    sums, bounds = np.concatenate([[0.0], np.cumsum(logs)]), np.array([*starts, len(logs)])
    while len(bounds) > 2:
        lengths = np.diff(bounds)
        variances = np.maximum(noise.variance_of_mean(lengths), np.finfo(np.float64).tiny)
        evidence = np.diff(np.diff(sums[bounds]) / lengths) ** 2 / (variances[1:] + variances[:-1])
        weakest = int(np.argmin(evidence))
        if evidence[weakest] > PENALTY * np.log(len(logs)):
            break
        bounds = np.delete(bounds, weakest + 1)
    return [int(start) for start in bounds[:-1]]


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1, averaged over ties: `scipy.stats.rankdata`, which takes a second to import."""
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    mean: NDArray[np.float64] = np.cumsum(sizes) - (sizes - 1) / 2
    return mean[group]


def _changes(values: NDArray[np.float64]) -> list[int]:
    """Start indices of the segments that explain the ranks best, with a penalty per segment."""
    n = len(values)
    if n < 2:
        return [0]
    # Uniform from 0 to 1 without a change, so that the variance is known.
    ranks = (_ranks(values) - 0.5) / n
    sums, squares = (np.concatenate([[0.0], np.cumsum(part)]) for part in (ranks, ranks**2))
    positions = np.arange(n + 1)
    best = np.full(n + 1, np.inf)
    best[0] = 0.0
    last = np.zeros(n + 1, dtype=np.int64)
    price = PENALTY * np.log(n)
    for end in range(1, n + 1):
        begins = positions[:end]
        unexplained = squares[end] - squares[:end] - (sums[end] - sums[:end]) ** 2 / (end - begins)
        totals = best[:end] + 12 * unexplained + price
        last[end] = int(np.argmin(totals))
        best[end] = totals[last[end]]
    starts = [int(last[n])]
    while starts[0] > 0:
        starts.insert(0, int(last[starts[0]]))
    return starts
