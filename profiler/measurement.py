"""What was measured: every sample of a candidate and of the reference beside it, and what follows from them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptare.devices import DeviceInfo, InputError, canonical_json
from adaptare.profiler.intervals import Interval, ratio_interval
from adaptare.profiler.shape import ModelShape
from adaptare.profiler.workload import Workload

INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Visit:
    """One candidate's turn in one round.

    Args:
        opening: Which loading of the program, counted over the session.
        round: Which round, counted over the session.
        touch_s: The discarded first call, seconds.
        samples_s: The calls that count, seconds.
    """

    opening: int
    round: int
    touch_s: float
    samples_s: tuple[float, ...]

    @property
    def median_s(self) -> float:
        """Of the calls that count."""
        return float(np.median(self.samples_s))


@dataclass(frozen=True)
class Measurement:
    """One workload on one device in one session.

    Args:
        workload: What was timed.
        device: Who timed it.
        reference: The fixed workload that was visited in every round beside it.
        reference_s: What the reference took when the device was calibrated, seconds.
        session: Names the session; measurements of one session share their rounds.
        visits: Of the candidate, in the order of the rounds.
        reference_visits: Of the reference, in the same rounds.
        warmup_s: Calls before the first round, the first call of each opening included, seconds.
        stopped_by: Which rule ended it: `precise`, `no gain`, `budget`, `rounds`, `interrupted`.
        resident_bytes: What loading the program added to the worker.
        load_s: Seconds to load it.
        environment: What the machine said of itself before and after.
        failure: Why it was given up; what was seen before that is kept. Empty if all went well.
        taken_at: Start of the session, ISO 8601 in UTC.
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
    environment: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)
    failure: str = ""
    taken_at: str = ""

    @property
    def complete(self) -> bool:
        """Whether it need not be measured again."""
        return not self.failure and self.stopped_by != INTERRUPTED

    @cached_property
    def ratios(self) -> NDArray[np.float64]:
        """Candidate over reference in each round. Shape (n_rounds,)."""
        self._check_measured()
        return np.array(
            [own.median_s / other.median_s for own, other in zip(self.visits, self.reference_visits, strict=True)]
        )

    @cached_property
    def openings(self) -> NDArray[np.int64]:
        """The opening of each round. Shape (n_rounds,)."""
        return np.array([visit.opening for visit in self.visits], dtype=np.int64)

    @cached_property
    def ratio(self) -> Interval:
        """Candidate over reference: median over rounds, with a 95 % interval."""
        return ratio_interval(self.ratios, self.openings)

    @property
    def latency_s(self) -> float:
        """Median over rounds of candidate / reference, times the reference's calibrated seconds."""
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
        """Latency over that of the base, minus one. Raises `InputError` unless the base was the reference."""
        if self.reference != self.workload.base:
            raise InputError("the reference was not the base of this workload; compare with a measurement of the base")
        return Interval(self.ratio.lower - 1, self.ratio.middle - 1, self.ratio.upper - 1)

    @property
    def raw_s(self) -> float:
        """Median over rounds of the candidate's own seconds, whatever state the device was in."""
        self._check_measured()
        return float(np.median([visit.median_s for visit in self.visits]))

    @property
    def reference_raw_s(self) -> float:
        """Median over rounds of the reference's seconds in this session."""
        self._check_measured()
        return float(np.median([visit.median_s for visit in self.reference_visits]))

    @property
    def slowdown(self) -> float:
        """How much slower the device was than when it was calibrated: 0.05 is 5 %."""
        return self.reference_raw_s / self.reference_s - 1.0

    def _check_measured(self) -> None:
        if not self.visits:
            raise InputError(f"nothing was measured: {self.failure or 'no round was finished'}")


def overhead(candidate: Measurement, base: Measurement) -> Interval:
    """Latency of the candidate over that of the base, minus one; paired by rounds within a session.

    Args:
        candidate: With an adapter.
        base: The same workload without.

    Raises:
        InputError: They were not measured in the same session on the same device.
    """
    if candidate.session != base.session or candidate.device != base.device:
        raise InputError("overhead needs both measured in one session on one device; measure them together")
    theirs = {(visit.opening, visit.round): visit.median_s for visit in base.visits}
    pairs = [
        (visit.median_s / theirs[visit.opening, visit.round], visit.opening)
        for visit in candidate.visits
        if (visit.opening, visit.round) in theirs
    ]
    if not pairs:
        raise InputError("the two have no round in common")
    ratio = ratio_interval(np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs], dtype=np.int64))
    return Interval(ratio.lower - 1, ratio.middle - 1, ratio.upper - 1)


def measurement_to_json(measurement: Measurement) -> dict[str, Any]:
    """Everything but the shapes, which are named by their hashes."""

    def rows(visits: Sequence[Visit]) -> list[list[Any]]:
        return [[visit.opening, visit.round, visit.touch_s, list(visit.samples_s)] for visit in visits]

    info = measurement.device
    return {
        "workload": measurement.workload.to_json(),
        "reference": measurement.reference.to_json(),
        "device": device_to_json(info),
        "reference_s": measurement.reference_s,
        "session": measurement.session,
        "visits": rows(measurement.visits),
        "reference_visits": rows(measurement.reference_visits),
        "warmup_s": list(measurement.warmup_s),
        "stopped_by": measurement.stopped_by,
        "resident_bytes": measurement.resident_bytes,
        "load_s": measurement.load_s,
        "environment": dict(measurement.environment),
        "failure": measurement.failure,
        "taken_at": measurement.taken_at,
    }


def measurement_from_json(content: Mapping[str, Any], shapes: Mapping[str, ModelShape]) -> Measurement:
    """Inverse of `measurement_to_json`; `shapes` maps hashes to shapes."""

    def visits(rows: Sequence[Sequence[Any]]) -> tuple[Visit, ...]:
        return tuple(Visit(opening, number, touch, tuple(samples)) for opening, number, touch, samples in rows)

    plain = (
        "reference_s",
        "session",
        "stopped_by",
        "resident_bytes",
        "load_s",
        "environment",
        "failure",
        "taken_at",
    )
    return Measurement(
        workload=Workload.from_json(content["workload"], shapes[content["workload"]["shape"]]),
        reference=Workload.from_json(content["reference"], shapes[content["reference"]["shape"]]),
        device=device_from_json(content["device"]),
        visits=visits(content["visits"]),
        reference_visits=visits(content["reference_visits"]),
        warmup_s=tuple(content["warmup_s"]),
        **{name: content[name] for name in plain},
    )


def device_to_json(info: DeviceInfo) -> dict[str, Any]:
    """Every field of a device info."""
    return {
        "device": info.device,
        "hardware": info.hardware,
        "runtime": info.runtime,
        "threads": info.threads,
        "options": list(info.options),
        "timer_step_s": info.timer_step_s,
    }


def device_hash(info: DeviceInfo) -> str:
    """Equal for equal device infos: 16 hex digits of SHA-256."""
    compared = {name: value for name, value in device_to_json(info).items() if name != "timer_step_s"}
    return hashlib.sha256(canonical_json(compared).encode()).hexdigest()[:16]


def device_from_json(content: Mapping[str, Any]) -> DeviceInfo:
    """Inverse of `device_to_json`."""
    return DeviceInfo(**{**content, "options": tuple(content["options"])})
