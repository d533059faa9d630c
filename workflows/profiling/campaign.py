"""A campaign: workloads measured in groups, each stored on completion, with progress and Ctrl-C handling."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace

from adaptare.core import ProgramError
from adaptare.core.interrupts import interrupts_noted
from adaptare.core.progress import SILENT, Feedback, Update
from adaptare.core.units import milliseconds, percent
from adaptare.devices import Device
from adaptare.profiler import Measurement, Programs, Store, Workload
from adaptare.profiler.analysis import CHANGE, speed_changes
from adaptare.profiler.measuring import (
    Latency,
    PreciseWithin,
    Probe,
    Progress,
    Seen,
    Session,
    Stubs,
    stub_session,
    stubs_for,
)
from adaptare.profiler.store import CALIBRATION_HOLDS, INTERRUPTED, Origin, calibrated
from adaptare.workflows.profiling.running import Announcement, RunningCampaign, announced, store_name
from adaptare.workflows.target import spelled

STUBS_HALF_WIDTH = 1e-6
# Share of a call that the host takes to issue it, above which the accelerator waits for the host.
HOST_BOUND = 0.9


@dataclass(frozen=True)
class Watched:
    """A stopping rule that also reports progress and stops after Ctrl-C.

    Args:
        limit_s: No group starts after this many seconds; of many groups, the share that is done is that of the time.
    """

    rule: PreciseWithin
    interrupted: Callable[[], bool]
    update: Update
    announcement: Announcement | None = None
    limit_s: float = math.inf
    started_s: float = field(default_factory=time.monotonic)

    @property
    def openings(self) -> int | None:
        return self.rule.openings

    def opening_reason(self, progress: Progress) -> str:
        if self.interrupted():
            return INTERRUPTED
        share = (progress.group + min(0.99, progress.elapsed_s / self.rule.seconds)) / progress.groups
        share = max(share, min(0.99, (time.monotonic() - self.started_s) / self.limit_s))
        doing = f"{progress.candidates} candidates, opening {progress.opening + 1}, round {progress.rounds}"
        widest = f", widest interval ±{progress.half_width:.1%}" if math.isfinite(progress.half_width) else ""
        self.update(share, f"{doing}{widest}")
        if self.announcement:
            self.announcement.round(progress, share, doing)
        return self.rule.opening_reason(progress)

    def reason(self, progress: Progress) -> str:
        return self.rule.reason(progress)


@dataclass(frozen=True)
class Campaign:
    """Measures workloads on one device, interleaved with their base, and stores them.

    Args:
        store: Receives each group as soon as it is measured.
        stop: Precision and time limit of each group. Stubs always use the full time, because their intervals are not
            those of the models composed from them.
        recalibrate: True to calibrate with the base's present seconds, even if the calibration in the store holds.
        stubs: True to compose whole models from stubs instead of loading them.
        resume: True to use complete measurements of the store instead of measuring again, see `kept`.
        probes: Quantities to measure.
    """

    device: Device
    programs: Programs
    store: Store
    stop: PreciseWithin
    seed: int
    recalibrate: bool = False
    stubs: bool = False
    resume: bool = False
    feedback: Feedback = SILENT
    probes: Sequence[Probe] = (Latency(),)

    @property
    def quantities(self) -> list[str]:
        """Names of the quantities to measure."""
        return [next(iter(probe.units)) for probe in self.probes]

    @property
    def origin(self) -> Origin:
        """Origin of its measurements."""
        return "composed" if self.stubs else "measured"

    def calibration_s(self, reference: Workload) -> float | None:
        """Seconds of a base when the device was calibrated; `None` if the store has none."""
        return self.store.calibration(self.device.info(), reference, origin=self.origin)

    def kept(self, workloads: Sequence[Workload]) -> list[Measurement]:
        """Measurements of the latest session that completed all workloads; empty without one, or without `resume`.

        Args:
            workloads: Workloads of one base.
        """
        if not self.resume:
            return []
        sessions: dict[str, dict[Workload, Measurement]] = {}
        for row in self.store.measurements(self.device.info(), workloads[0].base):
            if row.complete and row.origin == self.origin and all(map(row.has, self.quantities)):
                sessions.setdefault(row.session, {})[row.workload] = row
        whole = [session for session in sessions.values() if set(workloads) <= set(session)]
        return [whole[-1][workload] for workload in workloads] if whole else []

    def measure(
        self,
        workloads: Sequence[Workload],
        *,
        title: str,
        limit_s: float | None = None,
        seen: Seen | None = None,
    ) -> list[Measurement]:
        """Measures workloads of one base, stores each group on completion, and returns all measurements.

        Args:
            workloads: Workloads of one base.
            title: Title of the progress display.
            limit_s: No group starts after this many seconds; the remaining workloads are not in the result.
            seen: Receives a group's latencies after each opening (one fresh load of all programs); not for stubs.

        Raises:
            KeyboardInterrupt: After the measurements so far have been stored.
        """
        reference, session = workloads[0].base, Session(self.device, self.stop, self.seed, programs=self.programs)
        plan = stubs_for(workloads, reference=reference, session=session) if self.stubs else []
        timed = [each for stubs in plan for each in (stubs.reference, *stubs.timed)] or [reference, *workloads]
        self._prepare(timed, workloads)
        measured: list[Measurement] = []
        before_s = self.calibration_s(reference)
        with (
            self._announced(title, workloads) as announcement,
            interrupts_noted() as interrupted,
            self.feedback.progress(title) as update,
        ):
            rule = replace(self.stop, half_width=STUBS_HALF_WIDTH) if self.stubs else self.stop
            watched = Watched(rule, interrupted, update, announcement, math.inf if limit_s is None else limit_s)
            session = replace(session, stop=watched)
            if self.stubs:
                groups = _composed(plan, stub_session(session, reference))
            else:
                show = seen and (lambda group: seen(calibrated(self._marked(group), known_s=before_s)))
                groups = session.groups(workloads, reference=reference, probes=self.probes, seen=show)
            for group in groups:
                self.store.append(self._marked(group))
                measured.extend(group)
                announcement.change(measured=len(measured))
                if interrupted():
                    raise KeyboardInterrupt
                if time.monotonic() - watched.started_s >= watched.limit_s:
                    break
            update(1.0, f"{len(measured)} measured")
        # The store calibrates what it holds.
        now = {(row.session, row.workload) for row in measured}
        stored = self.store.measurements(self.device.info(), reference)
        measured = [row for row in stored if (row.session, row.workload) in now]
        for remark in (*oddities(measured), *_calibration_change(measured, before_s)):
            self.feedback.note(remark)
        return measured

    def _marked(self, group: Sequence[Measurement]) -> list[Measurement]:
        return [replace(row, recalibrates=self.recalibrate) for row in group]

    def _announced(self, title: str, workloads: Sequence[Workload]) -> AbstractContextManager[Announcement]:
        """Tells other processes of the campaign."""
        store, one = store_name(self.store.location), workloads[0]
        device = spelled(self.device.info().device, one.quantisation, one.dtype)
        return announced(RunningCampaign(store, device, title, len(workloads), started_s=time.time()))

    def _prepare(self, timed: Sequence[Workload], workloads: Sequence[Workload]) -> None:
        """Builds the programs beforehand: an export may take minutes, which are shown as progress and not timed."""
        for workload in timed:
            self.programs.check(workload)
        title = "preparing"
        with self._announced(title, workloads) as announcement, self.feedback.progress(title) as update:
            for number, workload in enumerate(timed):
                share, doing = number / len(timed), f"{workload.mode} {workload.scope}"
                update(share, doing)
                announcement.change(share=share, doing=doing)
                with suppress(ProgramError):  # measuring notes it as the failure of this workload
                    self.programs.program(workload)
            update(1.0, f"{len(timed)} programs")


def _composed(plan: Sequence[Stubs], session: Session) -> Iterator[list[Measurement]]:
    """Measurements of whole models, from one session for each part of their stubs."""
    for stubs in plan:
        rows = [row for group in session.groups(stubs.timed, reference=stubs.reference) for row in group]
        yield stubs.composed(rows)
        if any(row.stopped_by == INTERRUPTED for row in rows):
            return


def oddities(measured: Sequence[Measurement]) -> Iterator[str]:
    """Failures, changes of the device's speed, and what else a reader of the rows must know."""
    for row in measured:
        if row.failure:
            sites = len(row.workload.configuration.ranks)
            yield f"not measured: {row.workload.mode} adapter on {sites} sites: {row.failure}"
    # Candidates of one group share their rounds.
    groups = {(row.session, row.reference_visits[0].round): row for row in measured if row.visits}
    times = sum(len(speed_changes([visit.median_s for visit in row.reference_visits])) for row in groups.values())
    if times:
        often = "once" if times == 1 else f"{times} times"
        yield f"device speed changed {often}; overheads are ratios to the interleaved base and are not affected"
    yield from slowed_down(list(groups.values()))
    yield from throttled(measured)
    yield from two_levels([row for row in measured if row.visits])
    yield from _placements(measured)
    waiting = sum(row.environment.get("host_share", 0.0) > HOST_BOUND for row in measured)
    if waiting:
        yield (
            f"{waiting} of {len(measured)} are bound by the host: the accelerator waits for kernels to be issued; "
            "compile=yes issues fewer of them, and graphs=yes (CUDA) all at once"
        )


def slowed_down(groups: Sequence[Measurement]) -> Iterator[str]:
    """Groups whose base became slower from burst to sustained; one measurement of each."""
    for each in groups:
        found = each.reference_endurance
        if found and found.slowdown > CHANGE:
            yield (
                f"{each.workload.phase} slows down while it is measured: the base took {milliseconds(found.burst_s)} "
                f"ms at first (burst) and {milliseconds(found.sustained_s)} ms at the end (sustained); measure for "
                "more seconds to see where it settles"
            )


def two_levels(measured: Sequence[Measurement]) -> Iterator[str]:
    """Programs that are fast or slow from one load to the next, by the first of them."""
    found = [(row, levels) for row in measured if (levels := row.levels)]
    for row, levels in found[:1]:
        sites = len(row.workload.configuration.ranks)
        yield (
            f"{len(found)} of {len(measured)} take one of two times from one loading of the programs to the next: "
            f"{row.workload.mode} adapter on {sites} sites {percent(levels.lower - 1)} in {1 - levels.share:.0%} of "
            f"{row.opening_count()} openings, and {percent(levels.upper - 1)} in the others; its interval is that of "
            "the middle half of all openings"
        )


def throttled(measured: Sequence[Measurement]) -> Iterator[str]:
    """Groups of processors that may not use their highest frequency at the end, as far as the device tells."""
    ends = [row.environment.get("after", {}).get("clusters") or [] for row in measured]
    shares = {
        cluster["processors"]: cluster["allowed_hz"] / cluster["max_hz"]
        for clusters in ends
        for cluster in clusters
        if cluster["allowed_hz"] and cluster["max_hz"] and cluster["allowed_hz"] < cluster["max_hz"]
    }
    for processors, share in shares.items():
        yield (
            f"the device throttles: its processors {processors} may use {share:.0%} of their highest frequency; let it "
            "cool down, or lift the limit, and repeat"
        )


def _placements(measured: Sequence[Measurement]) -> Iterator[str]:
    """Share of the nodes that each provider runs, where there are several."""
    counts = [row.environment.get("providers", {}) for row in measured]
    several = [count for count in counts if len(count) > 1]
    for provider in dict.fromkeys(name for count in several for name in count):
        shares = [count.get(provider, 0) / sum(count.values()) for count in several]
        least, most = (f"{share:.0%}" for share in (min(shares), max(shares)))
        yield f"{provider} runs {least if least == most else f'{least} to {most}'} of the nodes"


def _calibration_change(measured: Sequence[Measurement], before_s: float | None) -> Iterator[str]:
    """Deviation of the device from its calibration, and its consequence."""
    last = next((row for row in reversed(measured) if row.complete and row.visits), None)
    if last is None or before_s is None:
        return
    share = last.reference_raw_s / before_s - 1
    slower = f"{abs(share):.0%} {'slower' if share > 0 else 'faster'}"
    changed = f"this device is now {slower} than when it was calibrated"
    if last.reference_s != before_s:
        yield f"{changed}; it is calibrated anew: its base takes {milliseconds(last.reference_s)} ms"
    elif abs(last.slowdown) > CALIBRATION_HOLDS:
        yield (
            f"{changed}, but only in a part of the session, so its calibration stays; close other programs and repeat, "
            "or recalibrate it to the present speed"
        )
