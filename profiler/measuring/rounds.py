"""Measurement of workloads: a session of groups that fit into memory, openings (reloads of all programs), rounds."""

import datetime
import itertools
import math
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from time import monotonic
from typing import Any

import numpy as np

from adaptare.core import DeviceError, InputError
from adaptare.devices import Device
from adaptare.profiler.measuring.group_run import Candidate, GroupRun
from adaptare.profiler.measuring.groups import split_into_groups
from adaptare.profiler.measuring.options import ProfileOptions
from adaptare.profiler.measuring.stopping import Progress, StoppingRule
from adaptare.profiler.programs.builders import Programs
from adaptare.profiler.store.measurement import INTERRUPTED, Measurement
from adaptare.profiler.store.measurements import Measurements
from adaptare.profiler.workloads.workload import Workload


def profile(
    workloads: Sequence[Workload],
    *,
    reference: Workload,
    device: Device,
    stop: StoppingRule,
    seed: int,
    openings: int | None = None,
    reference_s: float | None = None,
    programs: Programs | None = None,
) -> Measurements:
    """Times workloads in one session; see `profile_groups` and `ProfileOptions`.

    One measurement per workload, in the given order; none for groups that did not start before an interruption.
    """
    options = ProfileOptions(device, stop, seed, openings, programs)
    groups = profile_groups(workloads, reference=reference, options=options, reference_s=reference_s)
    by_workload = {measurement.workload: measurement for group in groups for measurement in group}
    return Measurements(by_workload[workload] for workload in workloads if workload in by_workload)


def profile_groups(
    workloads: Sequence[Workload],
    *,
    reference: Workload,
    options: ProfileOptions,
    reference_s: float | None = None,
    seen: Callable[[Sequence[Measurement]], None] | None = None,
) -> Iterator[list[Measurement]]:
    """Times workloads in one session, as many at once as fit into half of the free memory.

    Each round visits every candidate of the group in a new random order, and the reference several times if there are
    many candidates (`reference_visits`), of which the median visit is kept. The first call of a visit loads the weights
    into the caches and is discarded, as are those of the other copies of a cold part. Workloads that share a program
    (several ranks of one placement, where adapters are runtime inputs) are timed in the same load of it, and visited
    consecutively if calls are long. Candidates whose outputs differ from their merged reference are not timed. A
    candidate that fails, crashes or hangs yields a measurement with its failure, and the others continue in a new
    worker.

    Args:
        workloads: Workloads to time, without duplicates.
        reference: Visited in every round; usually the base without adapter.
        options: Device, stopping rule and seed.
        reference_s: Seconds of the reference when the device was calibrated; `None` calibrates it in the first group
            that has a complete measurement.
        seen: Callback that receives the group's measurements so far after each opening.

    Yields:
        The measurements of one group, in the order of its workloads; after an interruption no further group. If the
        device is lost, those so far of its last group, before the error is raised.

    Raises:
        InputError: A workload is a duplicate, there is none, or the device cannot run one.
        DeviceError: No worker can be started, or the reference does not run.
    """
    if not workloads:
        raise InputError("profile needs at least one workload; none came")
    if len(set(workloads)) != len(workloads):
        raise InputError("profile needs each workload once; one came twice")
    device, programs, info = options.device, options.builder, options.device.info()
    groups = split_into_groups(workloads, reference=reference, programs=programs, free_bytes=device.capacity_bytes())
    session, taken_at = uuid.uuid4().hex[:12], datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    rng = np.random.default_rng(options.seed)
    next_opening = next_round = 0
    for number, group in enumerate(groups):
        run = GroupRun(
            [Candidate(workload) for workload in group],
            Candidate(reference),
            device=device,
            programs=programs,
            rng=rng,
            opening=next_opening,
            round_=next_round,
        )
        started, stopped_by = monotonic(), ""
        measured: list[Measurement] = []
        common: dict[str, Any] = {"device": info, "reference": reference, "session": session, "taken_at": taken_at}
        try:
            for reason in _openings(run, options, group=number, groups=len(groups)):
                stopped_by = reason or ""
                measured = _measurements(run, stopped_by, started, {**common, "reference_s": reference_s})
                if seen and run.running():
                    seen(measured)
        except DeviceError:
            if run.reference.visits:
                yield _measurements(run, INTERRUPTED, started, {**common, "reference_s": reference_s})
            raise
        next_opening, next_round = run.next_opening, run.next_round
        if reference_s is None and stopped_by != INTERRUPTED and run.running():
            # A group in which all candidates failed does not calibrate the device.
            reference_s = measured[0].reference_s
        yield measured
        if stopped_by == INTERRUPTED:
            return


def _openings(run: GroupRun, options: ProfileOptions, *, group: int, groups: int) -> Iterator[str | None]:
    """Runs a group to completion. Yields after each opening: `None`, or the stopping reason if it was the last."""
    stop, started, half_width = options.stop, monotonic(), math.inf
    most = options.openings or stop.openings
    for opening in itertools.count():
        before = Progress(group, groups, len(run.running()), opening, half_width=half_width)
        ended, after = _run_opening(run, stop, before, started)
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


def _run_opening(run: GroupRun, stop: StoppingRule, before: Progress, started: float) -> tuple[str, Progress]:
    """Runs one opening. Returns its stopping reason, and the progress of the group."""
    reason, after = "", before
    first: float | None = None

    def enough(rounds: int) -> bool:
        nonlocal reason, after, first
        now = monotonic()
        # Loading and warm-up are not rounds, so the clock of the rounds starts with the first of them.
        first = now if first is None else first
        candidates = len(run.running())
        after = replace(before, candidates=candidates, rounds=rounds, rounds_s=now - first, elapsed_s=now - started)
        reason = stop.opening_reason(after)
        return bool(reason)

    run.run_opening(enough)
    return reason, after


def _measurements(run: GroupRun, stopped_by: str, started: float, common: Mapping[str, Any]) -> list[Measurement]:
    """Measurements of the group so far; without a calibration, the reference is scaled by its own median."""
    own_s = float(np.median([visit.median_s for visit in run.reference.visits] or [0.0]))
    common = {**common, "reference_s": own_s if common["reference_s"] is None else common["reference_s"]}
    environments = {**run.environments(), "elapsed_s": monotonic() - started}
    return [_measurement(candidate, run.reference, stopped_by, environments, common) for candidate in run.candidates]


def _measurement(
    candidate: Candidate,
    reference: Candidate,
    stopped_by: str,
    environments: Mapping[str, Any],
    common: Mapping[str, Any],
) -> Measurement:
    rounds = {visit.round for visit in candidate.visits}
    loaded = candidate.loaded
    copies = loaded.copies if loaded else 1
    share = loaded.host_share.get(candidate.feed) if loaded else None
    own = {"providers": dict(loaded.providers) if loaded else {}} | ({} if share is None else {"host_share": share})
    return Measurement(
        workload=candidate.workload,
        visits=tuple(candidate.visits),
        reference_visits=tuple(visit for visit in reference.visits if visit.round in rounds),
        warmup_s=tuple(candidate.warmup_s),
        stopped_by=stopped_by,
        resident_bytes=loaded.resident_bytes // copies if loaded else 0,
        load_s=loaded.load_s / copies if loaded else 0.0,
        first_call_s=candidate.first_call_s,
        failure=candidate.failure,
        environment={**environments, **own},
        **common,
    )
