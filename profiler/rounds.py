"""Measuring workloads: one session, groups that fit into memory, openings, rounds."""

import datetime
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from adaptare.devices import Device, InputError
from adaptare.profiler.group_run import Candidate, GroupRun
from adaptare.profiler.groups import split_into_groups
from adaptare.profiler.measurement import INTERRUPTED, Measurement
from adaptare.profiler.programs import Programs, programs_for
from adaptare.profiler.stopping import LEAST_ROUNDS, PRECISE, Precise, Progress, StoppingRule
from adaptare.profiler.workload import Workload

CHECK_EVERY = 4
# An interval over fewer openings is not asked whether it is narrow enough: by luck it is too often, and then it holds
# less often than it says. From so many on that costs one or two per cent.
ENOUGH_OPENINGS = 8


def profile(
    workloads: Sequence[Workload],
    *,
    reference: Workload,
    device: Device,
    stop: StoppingRule,
    seed: int,
    openings: int = 1,
    half_width: float | None = None,
    reference_s: float | None = None,
    programs: Programs | None = None,
) -> list[Measurement]:
    """Times workloads in one session; see `profile_groups`.

    One measurement per workload, in their order; those of groups that an interruption kept from beginning have none.
    """
    groups = profile_groups(
        workloads,
        reference=reference,
        device=device,
        stop=stop,
        seed=seed,
        openings=openings,
        half_width=half_width,
        reference_s=reference_s,
        programs=programs,
    )
    by_workload = {measurement.workload: measurement for group in groups for measurement in group}
    return [by_workload[workload] for workload in workloads if workload in by_workload]


def profile_groups(
    workloads: Sequence[Workload],
    *,
    reference: Workload,
    device: Device,
    stop: StoppingRule,
    seed: int,
    openings: int = 1,
    half_width: float | None = None,
    reference_s: float | None = None,
    programs: Programs | None = None,
) -> Iterator[list[Measurement]]:
    """Times workloads in one session, as many at once as half the free memory holds.

    Each round visits every candidate of the group in a new random order, and the reference several times among many
    (`reference_visits`), of which the middle visit counts. The first call of a visit brings its weights back into the
    caches and does not count, nor do those of the other copies of a cold part. Workloads that share a program (several
    ranks of one placement, where the runtime is fed with them) are timed in the same loading of it, and visited one
    right after the other where calls are long. Candidates whose outputs differ from their merged twin's are not timed.
    A candidate that fails, crashes or hangs becomes a measurement with its failure, and the others go on with a new
    worker.

    Args:
        workloads: What to time; no workload twice.
        reference: Visited in every round; usually the base without adapter.
        device: Who takes the time.
        stop: Asked after every round of a group's first opening; later openings repeat its number of rounds.
        seed: Of the order of visits.
        openings: How often every program is loaded anew; the outer level of the intervals.
        half_width: Relative half-width of every interval over the openings from which on no more of them are needed,
            after eight at the earliest; default: as many as `openings` says.
        reference_s: Seconds of the reference when the device was calibrated; `None` calibrates it in the first group
            in which not everything failed.
        programs: Of the device's runtime; default: what `programs_for` gives.

    Yields:
        The measurements of one group, in the order of its workloads; after an interruption no further group.

    Raises:
        InputError: A workload stands there twice, there is none, or the device cannot run one.
        DeviceError: No worker can be had, or the reference does not run.
    """
    if not workloads:
        raise InputError("profile needs at least one workload; none came")
    if len(set(workloads)) != len(workloads):
        raise InputError("profile needs each workload once; one came twice")
    if half_width is not None:
        Precise(half_width)  # says what is wrong with it
    if openings < 1:
        raise InputError(f"openings must be at least 1, not {openings}")
    info = device.info()
    programs = programs or programs_for(info)
    with device.open() as worker:
        free_bytes = worker.info.free_bytes
    groups = split_into_groups(workloads, reference=reference, programs=programs, free_bytes=free_bytes)
    session, taken_at = uuid.uuid4().hex[:12], datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    rng = np.random.default_rng(seed)
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
        stopped_by = _run_openings(run, stop, openings, half_width, group=number, groups=len(groups))
        next_opening, next_round = run.next_opening, run.next_round
        own_s = float(np.median([visit.median_s for visit in run.reference.visits] or [0.0]))
        if reference_s is None and stopped_by != INTERRUPTED and run.running():
            reference_s = own_s  # a group in which nothing came to its end does not say how fast the device is
        common: dict[str, Any] = {
            "device": info,
            "reference": reference,
            "reference_s": own_s if reference_s is None else reference_s,
            "session": session,
            "taken_at": taken_at,
        }
        environments = run.environments()
        yield [_measurement(each, run.reference, stopped_by, environments, common) for each in run.candidates]
        if stopped_by == INTERRUPTED:
            return


def _run_openings(
    run: GroupRun, stop: StoppingRule, openings: int, half_width: float | None, *, group: int, groups: int
) -> str:
    """Runs a group to its end. Returns why it ended."""
    reason, wanted = _run_opening(run, stop, 0, None, [], group=group, groups=groups)
    for opening in range(1, openings):
        if reason == INTERRUPTED or not run.running():
            return reason
        widest = run.widest()
        if half_width and widest <= half_width and opening >= ENOUGH_OPENINGS:
            return PRECISE
        later, _ = _run_opening(run, stop, opening, wanted, [widest], group=group, groups=groups)
        reason = later or reason
    if half_width and openings >= ENOUGH_OPENINGS and reason != INTERRUPTED and run.running():
        return PRECISE if run.widest() <= half_width else "openings"
    return reason


def _run_opening(
    run: GroupRun,
    stop: StoppingRule,
    opening: int,
    wanted: int | None,
    half_widths: list[float],
    *,
    group: int,
    groups: int,
) -> tuple[str, int]:
    """Runs one opening, for `wanted` rounds if that is known. Returns why the rule ended it, and the rounds."""
    reason = ""
    started: float | None = None

    def enough(rounds: int) -> bool:
        nonlocal reason, started
        # Loading and warming up are not rounds, so the clock starts with the first of these.
        started = time.monotonic() if started is None else started
        if wanted is None and rounds >= LEAST_ROUNDS and rounds % CHECK_EVERY == 0:
            half_widths.append(run.widest())
        elapsed_s = time.monotonic() - started
        said = stop.reason(Progress(group, groups, len(run.running()), opening, rounds, elapsed_s, tuple(half_widths)))
        if wanted is None or said == INTERRUPTED:
            reason = said
        return bool(reason) or rounds == wanted

    rounds = run.run_opening(enough)
    return reason, rounds


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
        environment={**environments, "providers": dict(loaded.providers) if loaded else {}},
        **common,
    )
