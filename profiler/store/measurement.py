"""Measurements: every sample of a candidate and of its interleaved reference, and statistics derived from them."""

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.devices import DeviceInfo
from adaptare.profiler.analysis.device_speed import Endurance, endurance_of, stable_rounds
from adaptare.profiler.analysis.intervals import Interval, contributing, opening_logs, ratio_interval, too_few
from adaptare.profiler.analysis.levels import Levels, levels_of
from adaptare.profiler.analysis.warmup import common_warmup, steadiness
from adaptare.profiler.store.samples import Samples
from adaptare.profiler.workloads.workload import Workload

LATENCY = "latency"
# 90th percentile of calls, which the samples of latency give.
P90 = "p90"
INTERRUPTED = "interrupted"
LOW = 0.1
Origin = Literal["measured", "composed"]


@dataclass(frozen=True)
class Visit:
    """One candidate's turn in one round.

    Args:
        opening: Number of the opening (one fresh load of all programs) in the session.
        round: Number of the round in the session.
        touch_s: First discarded call, seconds; in consecutive visits, that of the first one.
        samples_s: Calls that count, seconds.

    Raises:
        InputError: There are no samples, or one is no finite number above 0.
    """

    opening: int
    round: int
    touch_s: float
    samples_s: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.samples_s or not all(0 < sample < math.inf for sample in self.samples_s):
            wrong = [sample for sample in self.samples_s if not 0 < sample < math.inf]
            raise InputError(f"seconds of calls must be finite numbers above 0, not {wrong[:3]}")

    def to_json(self) -> list[Any]:
        """Opening, round, first call and samples."""
        return [self.opening, self.round, self.touch_s, list(self.samples_s)]

    @classmethod
    def from_json(cls, content: Sequence[Any]) -> "Visit":
        """Inverse of `to_json`."""
        opening, number, touch_s, samples_s = content
        return cls(opening, number, touch_s, tuple(samples_s))

    @cached_property
    def median_s(self) -> float:
        """Median of the calls that count, seconds."""
        return statistics.median(self.samples_s)


@dataclass(frozen=True)
class Measurement:
    """One workload on one device in one session.

    Args:
        reference: Fixed workload, interleaved in every round.
        reference_s: Seconds of the reference when the device was calibrated; see `profiler.store.calibration`.
        session: Identifier of the session; measurements of one session share their rounds.
        visits: Visits of the candidate, in the order of the rounds.
        reference_visits: Visits of the reference, in the same rounds.
        warmup_s: Calls before the first round of each opening, seconds.
        stopped_by: Stopping reason: `precise`: every interval over all openings reached the wanted width; `budget`:
            time limit; `openings` or `rounds`: their maximum number; `interrupted`.
        resident_bytes: Resident memory added to the worker by loading the program, per copy.
        load_s: Seconds to load it, per copy.
        first_call_s: Seconds of its very first call, in the first opening; 0 if not recorded.
        environment: State of the machine `before` and `after`, and of the `worker` at its start; number of graph nodes
            run by each of the `providers`; `elapsed_s` of its group, including loading; `host_share` of `Loaded`, on an
            accelerator.
        failure: Reason of a failure; earlier samples are kept. Empty on success.
        taken_at: Start of the session, ISO 8601 in UTC.
        origin: `measured`, or `composed` from measured parts.
        recalibrates: True if its session calibrates the device, even if the calibration before it holds.
        quantities: Samples of every measured quantity other than latency, by name.
        first_reference_visits: First visits of the reference in the rounds that had several, for percentiles;
            `reference_visits` has the median ones, which seldom have slow calls.
    """

    workload: Workload
    device: DeviceInfo
    reference: Workload
    reference_s: float
    session: str
    visits: tuple[Visit, ...] = field(repr=False)
    reference_visits: tuple[Visit, ...] = field(repr=False)
    warmup_s: tuple[float, ...] = field(default=(), repr=False)
    stopped_by: str = ""
    resident_bytes: int = 0
    load_s: float = 0.0
    first_call_s: float = 0.0
    environment: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)
    failure: str = ""
    taken_at: str = ""
    origin: Origin = "measured"
    recalibrates: bool = False
    quantities: Mapping[str, Samples] = field(default_factory=dict, hash=False)
    first_reference_visits: tuple[Visit, ...] = field(default=(), repr=False)

    def has(self, quantity: str) -> bool:
        """True if a quantity was measured without failure."""
        if quantity in (LATENCY, P90):
            return bool(self.visits) and not self.failure and (quantity == LATENCY or self.origin == "measured")
        samples = self.quantities.get(quantity, Samples(""))
        return any(samples.rounds) and not samples.failure

    def value(self, quantity: str = LATENCY) -> Interval:
        """A quantity in its SI unit, with a 95 % interval; latency on the scale of `latency_s`. Raises `InputError`."""
        if quantity == LATENCY:
            return Interval(self.lower_s, self.latency_s, self.upper_s)
        return self.samples(quantity).value

    def ratio_to_reference(self, quantity: str = LATENCY) -> Interval:
        """Ratio of a quantity to that of the reference, with a 95 % interval. Raises `InputError` as `value`."""
        return self.ratio if quantity == LATENCY else self.samples(quantity).ratio

    def reference_value(self, quantity: str = LATENCY) -> float:
        """Typical value of the reference; of latency the calibrated one. Raises `InputError` as `value`."""
        return self.reference_s if quantity == LATENCY else self.samples(quantity).of_reference.value.middle

    def samples(self, quantity: str) -> Samples:
        """Samples of a quantity other than latency. Raises `InputError` as `value`."""
        if quantity == P90 and self.has(P90):
            return self._p90
        if quantity not in self.quantities:
            known = ", ".join([LATENCY, *self.quantities])
            raise InputError(f"{quantity} was not measured, only {known}; measure it with a probe of it")
        return self.quantities[quantity]

    @cached_property
    def _p90(self) -> Samples:
        """90th percentile of the calls of each opening, in settled rounds, of the candidate and of the reference."""
        counts, openings = self._settled, contributing(self.openings[self._settled])
        first = {visit.round: visit for visit in self.first_reference_visits}

        def of(visits: Sequence[Visit]) -> tuple[tuple[float, ...], ...]:
            rounds = [visit.samples_s for visit, counted in zip(visits, counts, strict=True) if counted]
            return tuple((float(np.quantile(np.concatenate([rounds[row] for row in own]), 0.9)),) for own in openings)

        return Samples("s", of(self.visits), of([first.get(visit.round, visit) for visit in self.reference_visits]))

    @property
    def complete(self) -> bool:
        """True if no further measurement is needed."""
        return not self.failure and self.stopped_by != INTERRUPTED

    @cached_property
    def ratios(self) -> NDArray[np.float64]:
        """Ratio of candidate to reference in each round. Shape (n_rounds,)."""
        self._check_measured()
        return _medians(self.visits) / _medians(self.reference_visits)

    @cached_property
    def openings(self) -> NDArray[np.int64]:
        """The opening of each round. Shape (n_rounds,)."""
        return np.array([visit.opening for visit in self.visits], dtype=np.int64)

    @cached_property
    def _settled(self) -> NDArray[np.bool_]:
        """Mask of the rounds after the warm-up of candidate and reference. Shape (n_rounds,)."""
        return settled(self.visits, self.reference_visits)

    def opening_count(self, quantity: str = LATENCY) -> int:
        """Number of openings (fresh loads of all programs) that the interval of a quantity is over."""
        if quantity != LATENCY:
            return sum(map(bool, self.samples(quantity).rounds))
        if not self.visits:
            return 0
        return len(contributing(self.openings[self._settled]))

    @cached_property
    def too_few_openings(self) -> int:
        """Number of openings that the interval of latency is over, if they are too few for one; 0 if they suffice."""
        return too_few(self.opening_count())

    @cached_property
    def ratio(self) -> Interval:
        """Ratio of candidate to reference in the rounds after the warm-up of both, with a 95 % interval."""
        return ratio_interval(self.ratios[self._settled], self.openings[self._settled])

    @cached_property
    def levels(self) -> Levels | None:
        """Two levels of the ratio to the reference among openings; `None` if one was seen."""
        return levels_of(opening_logs(self.ratios[self._settled], self.openings[self._settled]))

    def quantile_s(self, share: float) -> float:
        """A quantile over all calls of settled rounds, on the scale of `latency_s`; 0.9 is p90."""
        self._check_measured()
        scaled = [
            sample / other.median_s
            for own, other, counts in zip(self.visits, self.reference_visits, self._settled, strict=True)
            if counts
            for sample in own.samples_s
        ]
        return float(np.quantile(scaled, share)) * self.reference_s

    @property
    def low_s(self) -> float:
        """Tenth percentile of the candidate's unscaled seconds in stable rounds: repeats better than a median.

        Disturbances only ever slow calls down, so a low quantile is repeatable; the minimum would select calls during
        which the processor changed its speed within a round.
        """
        stable = stable_rounds(_lows(self.reference_visits))
        rounds = [own for own, counts in zip(self.visits, stable, strict=True) if counts]
        return _low_of_usual(rounds)

    @property
    def reference_low_s(self) -> float:
        """Tenth percentile of the reference's seconds; it depends on the speed of the device."""
        self._check_measured()
        return _low_of_usual(self.reference_visits)

    @property
    def tokens_per_s(self) -> float:
        """Throughput of all sequences together."""
        return self.workload.rows / self.latency_s

    @property
    def latency_s(self) -> float:
        """Ratio of candidate to reference (see `ratio_interval`) times the reference's calibrated seconds."""
        return self.ratio.middle * self.reference_s

    @property
    def lower_s(self) -> float:
        """Lower end of the 95 % interval of `latency_s`."""
        return self.ratio.lower * self.reference_s

    @property
    def upper_s(self) -> float:
        """Upper end of the 95 % interval of `latency_s`."""
        return self.ratio.upper * self.reference_s

    @property
    def overhead(self) -> Interval:
        """Latency relative to that of the base, minus one. Raises `InputError` unless the base was the reference."""
        if self.reference != self.workload.base:
            raise InputError("the reference was not the base of this workload; compare with a measurement of the base")
        return self.ratio.over_one

    @property
    def raw_s(self) -> float:
        """Median over rounds of the candidate's unscaled seconds, in any device state."""
        self._check_measured()
        return float(np.median([visit.median_s for visit in self.visits]))

    @cached_property
    def raw_interval(self) -> Interval:
        """Typical unscaled seconds of the candidate in this session, in any device state, with a 95 % interval."""
        return self._seconds(self.visits)

    @property
    def reference_raw_s(self) -> float:
        """Median over rounds of the reference's seconds in this session."""
        self._check_measured()
        return float(np.median([visit.median_s for visit in self.reference_visits]))

    @cached_property
    def reference_interval(self) -> Interval:
        """Typical seconds of the reference in this session, in any device state, with a 95 % interval."""
        return self._seconds(self.reference_visits)

    def _seconds(self, visits: Sequence[Visit]) -> Interval:
        self._check_measured()
        return ratio_interval(_medians(visits)[self._settled], self.openings[self._settled])

    @property
    def slowdown(self) -> float:
        """Relative slowdown of the device since its calibration: 0.05 is 5 %."""
        return self.reference_raw_s / self.reference_s - 1.0

    @property
    def endurance(self) -> Endurance | None:
        """Burst and sustained seconds of the candidate, unscaled; `None` for fewer than three openings."""
        return endurance_of(_medians(self.visits), self.openings)

    @property
    def reference_endurance(self) -> Endurance | None:
        """The same of the reference, which shows the speed of the device."""
        return endurance_of(_medians(self.reference_visits), self.openings)

    def _check_measured(self) -> None:
        if not self.visits:
            raise InputError(f"nothing was measured: {self.failure or 'no round was finished'}")


def paired_ratio(visits: Sequence[Visit], others: Sequence[Visit]) -> Interval:
    """Ratio of two candidates in the same rounds, with a 95 % interval; see `ratio_interval`."""
    counts = settled(visits, others)
    openings = np.array([visit.opening for visit in visits], dtype=np.int64)
    return ratio_interval((_medians(visits) / _medians(others))[counts], openings[counts])


def settled(visits: Sequence[Visit], others: Sequence[Visit]) -> NDArray[np.bool_]:
    """Mask of the rounds after the warm-up of both, in each opening. Shape (n_rounds,)."""
    openings = np.array([visit.opening for visit in visits], dtype=np.int64)
    counts = np.ones(len(openings), dtype=np.bool_)
    common = max(common_warmup(_medians(series), openings) for series in (visits, others)) if len(visits) else 0
    for opening in np.unique(openings):
        rows = np.flatnonzero(openings == opening)
        medians = (tuple(series[row].median_s for row in rows.tolist()) for series in (visits, others))
        start = max(min(common, len(rows) // 2), *map(_warm_from, medians))
        counts[rows[:start]] = False
    return counts


@lru_cache(maxsize=2**12)
def _warm_from(seconds: tuple[float, ...]) -> int:
    """First round after the warm-up of an opening; recomputed after each later opening."""
    state = steadiness(np.array(seconds))
    return state.start if state.trend == "warm-up" else 0


def _lows(visits: Sequence[Visit]) -> NDArray[np.float64]:
    """Undisturbed latency of the calls of each visit, as a low quantile."""
    return np.array([np.quantile(visit.samples_s, LOW) for visit in visits])


def _low_of_usual(visits: Sequence[Visit]) -> float:
    """Low quantile of all calls at the most frequent speed."""
    usual = stable_rounds(_lows(visits))
    return float(np.quantile(np.concatenate([visit.samples_s for visit in itertools.compress(visits, usual)]), LOW))


def _medians(visits: Sequence[Visit]) -> NDArray[np.float64]:
    return np.array([visit.median_s for visit in visits])


def overhead(candidate: Measurement, base: Measurement) -> Interval:
    """Latency of a candidate relative to the base, minus one; paired by rounds. Raises `InputError` across sessions."""
    if candidate.session != base.session or candidate.device != base.device:
        raise InputError("overhead needs both measured in one session on one device; measure them together")
    theirs = {(visit.opening, visit.round): visit for visit in base.visits}
    both = [visit for visit in candidate.visits if (visit.opening, visit.round) in theirs]
    if not both:
        raise InputError("the two have no round in common")
    return paired_ratio(both, [theirs[visit.opening, visit.round] for visit in both]).over_one


def pooled(earlier: Measurement, later: Measurement) -> Measurement:
    """One measurement with the openings (program loads) and rounds of both, and all other fields of the later one.

    Raises `InputError` if workload, device or reference differ.
    """
    for name in ("workload", "device", "reference"):
        if getattr(earlier, name) != getattr(later, name):
            raise InputError(f"measurements are pooled only where they have the same {name}; measure it again instead")
    openings = 1 + max((visit.opening for visit in earlier.visits), default=-1)
    rounds = 1 + max((visit.round for visit in earlier.visits), default=-1)

    def numbered_on(visits: Sequence[Visit]) -> tuple[Visit, ...]:
        return tuple(replace(visit, opening=visit.opening + openings, round=visit.round + rounds) for visit in visits)

    return replace(
        later,
        visits=(*earlier.visits, *numbered_on(later.visits)),
        reference_visits=(*earlier.reference_visits, *numbered_on(later.reference_visits)),
        first_reference_visits=(*earlier.first_reference_visits, *numbered_on(later.first_reference_visits)),
        warmup_s=(*earlier.warmup_s, *later.warmup_s),
        quantities={
            name: samples.after(earlier.quantities[name]) if name in earlier.quantities else samples
            for name, samples in later.quantities.items()
        },
    )
