"""Measuring sessions: workloads in groups that fit into memory, openings (reloads of all programs), rounds, probes."""

import contextlib
import datetime
import itertools
import math
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from time import monotonic
from typing import Any

import numpy as np

from adaptare.core import DeviceError, InputError
from adaptare.devices import Device
from adaptare.profiler.measuring.group_run import GroupRun
from adaptare.profiler.measuring.probe import Probe
from adaptare.profiler.measuring.probes import Latency
from adaptare.profiler.measuring.stopping import FixedRounds, Progress, StoppingRule
from adaptare.profiler.measuring.timed_workload import TimedWorkload
from adaptare.profiler.programs.builders import Need, Programs, programs_for
from adaptare.profiler.store.calibration import calibrated
from adaptare.profiler.store.measurement import INTERRUPTED, Measurement
from adaptare.profiler.store.measurements import Measurements
from adaptare.profiler.store.samples import Samples
from adaptare.profiler.workloads.workload import Workload

# An interrupted group loses its last opening; this limits the loss.
LARGEST_GROUP = 32
# Rounds of latency unless a rule is given.
USUAL = FixedRounds(8)
Seen = Callable[[Sequence[Measurement]], None]


@dataclass(frozen=True)
class Session:
    """Measures workloads on one device.

    Args:
        device: Device that runs the programs.
        stop: Rule that ends openings (fresh loads of all programs), and groups of candidates, by their latency;
            default: eight rounds of one opening.
        seed: Seed of the order of visits.
        openings: Maximum number of openings; the outer level of the intervals. Default: set by the rule: one for fixed
            rounds, as many as the time allows for `precise_within`.
        programs: Program builder of the device's runtime; default: the result of `programs_for`.

    Raises:
        InputError: `openings` is below 1.
    """

    device: Device
    stop: StoppingRule = USUAL
    seed: int = 0
    openings: int | None = None
    programs: Programs | None = None

    def __post_init__(self) -> None:
        if self.openings is not None and self.openings < 1:
            raise InputError(f"openings must be at least 1, not {self.openings}")

    @cached_property
    def builder(self) -> Programs:
        """The program builder."""
        return self.programs or programs_for(self.device.info())

    def measure(
        self, workloads: Sequence[Workload], *, reference: Workload, probes: Sequence[Probe] = (Latency(),)
    ) -> Measurements:
        """Measures workloads; see `groups`.

        One measurement per workload, in the given order; none for groups that did not start before an interruption.
        """
        measured = [row for group in self.groups(workloads, reference=reference, probes=probes) for row in group]
        by_workload = {row.workload: row for row in calibrated(measured)}
        return Measurements(by_workload[workload] for workload in workloads if workload in by_workload)

    def split(self, workloads: Sequence[Workload], *, reference: Workload) -> list[list[Workload]]:
        """Groups that fit, together with the reference, into half of the free memory.

        Workloads that share a program stay together, because they are comparable only within one opening (one fresh
        load of all programs); otherwise the order is kept. Raises `InputError` if a single workload does not fit, or
        does not run.
        """
        bound, start = self.device.capacity_bytes() // 2, self.builder.need(reference).total_bytes
        sharing: dict[str, list[tuple[Workload, Need]]] = {}
        for workload in workloads:
            need = self.builder.need(workload)
            sharing.setdefault(need.program, []).append((workload, need))
            if start + need.total_bytes > bound:
                raise InputError(
                    f"a {workload.mode} {workload.scope} needs {(start + need.total_bytes) / 2**20:,.0f} MiB with its "
                    f"base; half of the free memory is {bound / 2**20:,.0f} MiB; compose it from stubs, or free memory",
                    parameter="stubs",
                )
        groups, filled = list[list[Workload]](), 0
        for together in sharing.values():
            for part in _parts(together, bound - start):
                size = part[0][1].program_bytes + sum(need.feed_bytes for _, need in part)
                if not groups or filled + size > bound or len(groups[-1]) + len(part) > LARGEST_GROUP:
                    groups.append([])
                    filled = start
                groups[-1].extend(workload for workload, _ in part)
                filled += size
        return groups

    def fits(self, workloads: Sequence[Workload], *, reference: Workload) -> bool:
        """True if all workloads fit into memory at once, together with the reference.

        Raises `InputError` if the runtime does not run one of them.
        """
        for each in (reference, *workloads):
            self.builder.check(each)
        try:
            return len(self.split(workloads, reference=reference)) == 1
        except InputError:
            return False

    def groups(
        self,
        workloads: Sequence[Workload],
        *,
        reference: Workload,
        probes: Sequence[Probe] = (Latency(),),
        seen: Seen | None = None,
    ) -> Iterator[list[Measurement]]:
        """Measures workloads, as many at once as fit into half of the free memory.

        Each round of latency visits every candidate of the group in a new random order, and the reference several times
        if there are many candidates (`reference_visits`), of which the median visit and the first one are kept. The
        first call of a visit loads the weights into the caches and is discarded, as are those of the other copies of a
        cold part. Workloads that share a program (several ranks of one placement, where adapters are runtime inputs)
        are timed in the same load of it, and visited consecutively if calls are long. Then every other probe visits
        every candidate and the reference once in each of its openings.

        Candidates whose outputs differ from their merged reference are not measured. A candidate that fails, crashes or
        hangs yields a measurement with its failure, and the others continue in a new worker. The failure of another
        probe than that of latency is one of its quantities only.

        Args:
            workloads: Workloads to measure, without duplicates.
            reference: Visited in every round; usually the base without adapter.
            probes: Quantities to measure.
            seen: Receives the group's latencies so far after each opening.

        Yields:
            The measurements of one group, in the order of its workloads, on the scale of the session; after an
            interruption no further group. Those so far of the last group if the device is lost or does not measure a
            later quantity, before the error is raised.

        Raises:
            InputError: A workload is a duplicate, there is none, or the device cannot run or measure one.
            DeviceError: No worker can be started, the reference does not run, or the device changed.
        """
        if not workloads:
            raise InputError("profile needs at least one workload; none came")
        if len(set(workloads)) != len(workloads):
            raise InputError("profile needs each workload once; one came twice")
        info, session, earlier = self.device.info(), uuid.uuid4().hex[:12], list[Measurement]()
        taken_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        split, rng, opening, round_ = self.split(workloads, reference=reference), np.random.default_rng(self.seed), 0, 0

        def scaled(rows: Sequence[Measurement]) -> list[Measurement]:
            return calibrated([*earlier, *rows])[len(earlier) :]

        for number, some in enumerate(split):
            rows = [Measurement(each, info, reference, 0.0, session, (), (), taken_at=taken_at) for each in some]
            group = _Group(self, rows, rng, Progress(number, len(split), len(some), 0), opening, round_)
            try:
                group.measure(probes, seen and (lambda rows: seen(scaled(rows))))
            except (DeviceError, InputError):  # the device is lost, or does not measure a later quantity
                if any(row.visits for row in group.rows):
                    yield scaled(group.rows)
                raise
            opening, round_ = group.opening, group.round
            yield scaled(group.rows)
            if group.interrupted:
                return
            earlier += group.rows


def profile(
    workloads: Sequence[Workload],
    *,
    reference: Workload,
    device: Device,
    stop: StoppingRule,
    seed: int,
    openings: int | None = None,
    programs: Programs | None = None,
    probes: Sequence[Probe] = (Latency(),),
) -> Measurements:
    """Measures workloads in one session; see `Session` and `Session.measure`."""
    session = Session(device, stop, seed, openings, programs)
    return session.measure(workloads, reference=reference, probes=probes)


@dataclass(eq=False)
class _Group:
    """Measurements of one group of a session, one probe after the other, with its place in the session."""

    session: Session
    rows: list[Measurement]
    rng: np.random.Generator
    at: Progress
    opening: int
    round: int
    started: float = field(default_factory=lambda: monotonic())

    @property
    def interrupted(self) -> bool:
        """True if it did not come to its end."""
        return any(row.stopped_by == INTERRUPTED for row in self.rows)

    def measure(self, probes: Sequence[Probe], seen: Seen | None) -> None:
        """Measures every quantity, until an interruption."""
        for probe in probes:
            running = [row for row in self.rows if not row.failure]
            if not running or self.interrupted:
                return
            candidates = [TimedWorkload(row.workload, checked=bool(row.visits)) for row in running]
            reference = TimedWorkload(running[0].reference)
            device, info, programs = self.session.device, running[0].device, self.session.builder
            run = GroupRun(candidates, reference, probe, device, info, programs, self.rng, self.opening, self.round)
            with contextlib.closing(run):
                if isinstance(probe, Latency):
                    self._time(run, seen)
                else:
                    self._visit(run, probe)

    def _time(self, run: GroupRun, seen: Seen | None) -> None:
        try:
            for reason in self._openings(run):
                self._note_times(run, reason or "")
                if seen and run.running():
                    seen(self.rows)
        except (DeviceError, InputError):
            self._note_times(run, INTERRUPTED)
            raise
        self.opening, self.round = run.next_opening, run.next_round

    def _openings(self, run: GroupRun) -> Iterator[str | None]:
        """Runs latency to its end. Yields after each opening: `None`, or the stopping reason if it was the last."""
        stop, half_width = self.session.stop, math.inf
        most = self.session.openings or stop.openings
        for opening in itertools.count():
            ended, after = self._run_opening(run, replace(self.at, opening=opening, half_width=half_width))
            if ended == INTERRUPTED or not run.running():
                yield ended
                return
            half_width = run.widest()
            reason = stop.reason(replace(after, half_width=half_width))
            if not reason and opening + 1 == most:
                reason = "openings" if most > 1 else ended
            yield reason or None
            if reason:
                return

    def _run_opening(self, run: GroupRun, before: Progress) -> tuple[str, Progress]:
        """Runs one opening. Returns its stopping reason, and the progress of the group."""
        reason, after = "", before
        first: float | None = None

        def enough(rounds: int) -> bool:
            nonlocal reason, after, first
            now = monotonic()
            # Loading and warm-up are not rounds, so the clock of the rounds starts with the first of them.
            first = now if first is None else first
            after = replace(
                before,
                candidates=len(run.running()),
                rounds=rounds,
                rounds_s=now - first,
                elapsed_s=now - self.started,
            )
            reason = self.session.stop.opening_reason(after)
            return bool(reason)

        run.run_opening(enough)
        return reason, after

    def _note_times(self, run: GroupRun, stopped_by: str) -> None:
        """Latencies of all openings so far."""
        environment = {**run.environments(), "elapsed_s": monotonic() - self.started}
        by_workload = {candidate.workload: candidate for candidate in run.candidates}
        self.rows = [
            _timed(row, by_workload[row.workload], run.reference, stopped_by, environment) for row in self.rows
        ]

    def _visit(self, run: GroupRun, probe: Probe) -> None:
        """Measures a quantity other than latency; an error leaves what was measured before it."""

        def interrupted(opening: int) -> bool:
            elapsed_s, running = monotonic() - self.started, len(run.running())
            now = replace(self.at, candidates=running, opening=opening, elapsed_s=elapsed_s)
            return self.session.stop.opening_reason(now) == INTERRUPTED

        failure, finished = "", True
        try:
            finished = run.visit_all(interrupted)
        except DeviceError as error:
            if not any(row.visits or row.quantities for row in self.rows):
                raise
            failure = str(error)
        by_workload = {candidate.workload: candidate for candidate in run.candidates}
        for number, row in enumerate(self.rows):
            if candidate := by_workload.get(row.workload):
                samples = _samples(candidate, run.reference, probe, failure)
                self.rows[number] = replace(
                    row,
                    quantities={**row.quantities, **samples},
                    environment=row.environment or run.environments(),
                    stopped_by=row.stopped_by if finished else INTERRUPTED,
                )


def _timed(
    row: Measurement,
    candidate: TimedWorkload,
    reference: TimedWorkload,
    stopped_by: str,
    environment: Mapping[str, Any],
) -> Measurement:
    """A measurement with the latency of its candidate."""
    rounds = {visit.round for visit in candidate.visits}
    loaded = candidate.loaded
    copies = loaded.copies if loaded else 1
    share = loaded.host_share.get(candidate.feed) if loaded else None
    own = {"providers": dict(loaded.providers) if loaded else {}} | ({} if share is None else {"host_share": share})
    return replace(
        row,
        visits=tuple(candidate.visits),
        reference_visits=tuple(visit for visit in reference.visits if visit.round in rounds),
        first_reference_visits=tuple(visit for visit in reference.first_visits if visit.round in rounds),
        warmup_s=tuple(candidate.warmup_s),
        stopped_by=stopped_by,
        resident_bytes=loaded.resident_bytes // copies if loaded else 0,
        load_s=loaded.load_s / copies if loaded else 0.0,
        first_call_s=candidate.first_call_s,
        failure=candidate.failure,
        environment={**environment, **own},
    )


def _samples(candidate: TimedWorkload, reference: TimedWorkload, probe: Probe, failure: str) -> dict[str, Samples]:
    """Samples of everything that a probe measured; of what failed before its first sample, the failure alone."""
    names = dict.fromkeys([*candidate.values, *reference.values, *list(probe.units)[:1]])
    openings = range(probe.openings)

    def rounds(one: TimedWorkload, name: str) -> tuple[tuple[float, ...], ...]:
        return tuple(one.values.get(name, {}).get(opening, ()) for opening in openings)

    return {
        name: Samples(
            probe.units[name.partition("/")[0]],
            rounds(candidate, name),
            rounds(reference, name),
            candidate.failure or failure,
        )
        for name in names
    }


def _parts(together: Sequence[tuple[Workload, Need]], bound: int) -> list[list[tuple[Workload, Need]]]:
    """Workloads of one program, split into as few parts as fit into a group each."""
    parts: list[list[tuple[Workload, Need]]] = []
    filled = 0
    for workload, need in together:
        if not parts or filled + need.feed_bytes > bound or len(parts[-1]) == LARGEST_GROUP:
            parts.append([])
            filled = need.program_bytes
        parts[-1].append((workload, need))
        filled += need.feed_bytes
    return parts
