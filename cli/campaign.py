"""Measuring on behalf of a command: progress shown, Ctrl-C noted, results stored as soon as they are there."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from adaptare.console import Console, between, milliseconds
from adaptare.devices import Device
from adaptare.profiler import (
    CALIBRATION_HOLDS,
    INTERRUPTED,
    Measurement,
    Origin,
    PreciseWithin,
    Programs,
    Progress,
    Store,
    Workload,
    calibrated,
    changes,
    fitting_layers,
    precise_within,
    profile_by_stubs,
    profile_groups,
    programs_for,
    split_into_groups,
    stubs_of,
)
from adaptare.search import interrupts_noted

STUBS_HALF_WIDTH = 1e-6


@dataclass(frozen=True)
class Watched:
    """A stopping rule that also shows how far it is, and stops when it is told to."""

    rule: PreciseWithin
    interrupted: Callable[[], bool]
    update: Callable[[float, str], None]

    @property
    def openings(self) -> int | None:
        """See `StoppingRule.openings`."""
        return self.rule.openings

    def opening_reason(self, progress: Progress) -> str:
        """See `StoppingRule.opening_reason`."""
        if self.interrupted():
            return INTERRUPTED
        widest = f", widest interval ±{progress.half_width:.1%}" if math.isfinite(progress.half_width) else ""
        share = (progress.group + min(0.99, progress.elapsed_s / self.rule.seconds)) / progress.groups
        where = f"opening {progress.opening + 1}, round {progress.rounds}"
        self.update(share, f"{progress.candidates} candidates, {where}{widest}")
        return self.rule.opening_reason(progress)

    def reason(self, progress: Progress) -> str:
        """See `StoppingRule.reason`."""
        return self.rule.reason(progress)


def measure(
    workloads: Sequence[Workload],
    *,
    device: Device,
    half_width: float,
    seconds: float,
    seed: int,
    store: Store,
    console: Console,
    title: str,
    openings: int | None = None,
    programs: Programs | None = None,
    recalibrate: bool = False,
    stubs: bool = False,
    limit_s: float | None = None,
    seen: Callable[[Sequence[Measurement]], None] | None = None,
) -> list[Measurement]:
    """Measures workloads of one base beside it, stores each group when it is done, and returns all of them.

    Args:
        half_width: Of the widest interval, at which a group is finished. Stubs take all of the time, because their
            intervals are not those of the models they stand for.
        seconds: Time of each group, loading included.
        openings: Loads every program anew at most so often; default: as the time allows.
        programs: Of the device's runtime; default: what `programs_for` gives.
        recalibrate: Takes the base's present seconds for its calibration, even where those in the store hold.
        stubs: Whether whole models are composed from stubs instead of loaded.
        limit_s: No group is begun after so many seconds; what is left is not in the result.
        seen: Takes the measurements of a group as they stand after each opening; not called for stubs.

    Raises:
        KeyboardInterrupt: After what was measured by then has been stored.
    """
    reference = workloads[0].base
    measured: list[Measurement] = []
    programs = programs or programs_for(device.info())
    timed = [reference, *workloads]
    if stubs:
        with device.open() as worker:
            depths = fitting_layers(workloads, reference, programs, worker.info.free_bytes)
        timed = stubs_of(workloads, reference, depths)
    _prepare(timed, programs, console)
    show = seen and (lambda group: seen(calibrated(group, known_s)))
    profiled = profile_by_stubs if stubs else partial(profile_groups, seen=show)
    rule = precise_within(STUBS_HALF_WIDTH if stubs else half_width, seconds, openings)
    origin: Origin = "composed" if stubs else "measured"
    before_s = store.calibration(device.info(), reference, origin=origin)
    known_s = None if recalibrate else before_s
    started = time.monotonic()
    with interrupts_noted() as interrupted, console.progress(title) as update:
        groups = profiled(
            workloads,
            reference=reference,
            device=device,
            stop=Watched(rule, interrupted, update),
            seed=seed,
            programs=programs,
        )
        for group in groups:
            scaled = calibrated(group, known_s)
            known_s = next((each.reference_s for each in scaled if each.complete), known_s)
            store.append(scaled)
            measured.extend(scaled)
            if interrupted():
                raise KeyboardInterrupt
            if limit_s is not None and time.monotonic() - started >= limit_s:
                break
        update(1.0, f"{len(measured)} measured")
    _note_oddities(measured, console)
    _note_calibration(measured, before_s, console)
    return measured


def interval_of(measurement: Measurement) -> str:
    """The interval of its latency in milliseconds, for tables."""
    ends = milliseconds(measurement.lower_s), milliseconds(measurement.upper_s)
    return between(*ends, within_one_opening=measurement.within_one_opening)


def check_memory(campaigns: Sequence[Sequence[Workload]], *, device: Device, programs: Programs) -> None:
    """Raises `InputError` if one of them does not fit into memory, before the first is measured."""
    with device.open() as worker:
        free_bytes = worker.info.free_bytes
    for workloads in campaigns:
        split_into_groups(workloads, reference=workloads[0].base, programs=programs, free_bytes=free_bytes)


def _prepare(workloads: Sequence[Workload], programs: Programs, console: Console) -> None:
    """Makes the programs, so that exporting a model, which may take minutes, is seen and not timed."""
    for workload in workloads:
        programs.need(workload)
    with console.progress("preparing") as update:
        for number, workload in enumerate(workloads):
            update(number / len(workloads), f"{workload.mode} {workload.scope}")
            programs.program(workload)
        update(1.0, f"{len(workloads)} programs")


def _note_oddities(measured: Sequence[Measurement], console: Console) -> None:
    for each in measured:
        if each.failure:
            sites = len(each.workload.configuration.ranks)
            console.note(f"not measured: {each.workload.mode} adapter on {sites} sites: {each.failure}")
    _note_changes(measured, console)
    # Of many short openings a few always seem to change by luck.
    unsteady = sum(2 * each.trends.count("no steady state") > len(each.trends) for each in measured if each.visits)
    if unsteady:
        console.note(
            f"{unsteady} of {len(measured)} had no steady state in most openings; close other programs and repeat"
        )


def _note_calibration(measured: Sequence[Measurement], before_s: float | None, console: Console) -> None:
    """Says how far off its calibration the device was, and what came of it."""
    last = next((each for each in reversed(measured) if each.complete), None)
    if last is None or before_s is None:
        return
    changed = f"this device is now {_slower(last.reference_raw_s / before_s - 1)} than when it was calibrated"
    if last.reference_s != before_s:
        console.note(f"{changed}; it is calibrated anew: its base takes {milliseconds(last.reference_s)} ms")
    elif abs(last.slowdown) > CALIBRATION_HOLDS:
        console.note(
            f"{changed}, but not all the time, so its calibration stays; close other programs and repeat, or take the "
            "present speed for the usual one with --recalibrate"
        )


def _slower(share: float) -> str:
    return f"{abs(share):.0%} {'slower' if share > 0 else 'faster'}"


def _note_changes(measured: Sequence[Measurement], console: Console) -> None:
    """Whether the device changed while a group was measured; candidates of one group share their rounds."""
    groups = {each.reference_visits[0].round: each for each in measured if each.visits}
    times = sum(len(changes([visit.median_s for visit in each.reference_visits])) for each in groups.values())
    if times:
        often = "once" if times == 1 else f"{times} times"
        console.note(f"the device became faster or slower {often} while measuring; ratios to the base bear that")
