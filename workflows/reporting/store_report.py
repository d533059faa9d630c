"""Measurements of a store as results: one of overheads for each device and model, and the course of each session."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from adaptare.core.progress import SILENT, Feedback
from adaptare.devices import DeviceInfo
from adaptare.profiler import Configuration, Measurement, Store, Workload
from adaptare.profiler.analysis import EQUIVALENCE_BAND, LEAST_OPENINGS, speed_changes
from adaptare.profiler.store import Origin
from adaptare.workflows.grid import ALL, Case
from adaptare.workflows.overhead.overhead import Failure, OverheadReport
from adaptare.workflows.overhead.overhead_rows import row_of
from adaptare.workflows.profiling.campaign import oddities
from adaptare.workflows.reading import read_store, reading

# Placement of adapters whose ranks differ, or whose linears are not all of their kinds.
MIXED: Final = "mixed"
# Share of the time of a report that reading the rows takes.
READ: Final = 0.7


@dataclass(frozen=True)
class StoredKind:
    """Measurements of one device, model, phase and mode."""

    device: DeviceInfo
    device_hash: str
    workload: str
    kind: str
    model: str
    origin: Origin
    adapters: int
    rows: int
    incomplete: int
    sessions: int
    first: str
    last: str


@dataclass(frozen=True)
class Contents:
    """Result of `contents_of`."""

    store: str
    kinds: Sequence[StoredKind]


@dataclass(frozen=True)
class Timeline:
    """Course of one session on one device.

    Args:
        device: Spelling of the device.
        taken_at: Start, ISO 8601 in UTC.
        rounds: Number of each round.
        reference_s: Seconds of the reference in each round, unscaled.
        changes: Rounds from which on the device was more than 5 % faster or slower than before.
        half_widths: Openings -> half-width of the widest interval after as many openings; from the least that an
            interval needs.
        alarms: Remarks on failures, changes of speed and missing steady states.
    """

    device: str
    session: str
    taken_at: str
    rounds: tuple[int, ...]
    reference_s: tuple[float, ...]
    changes: tuple[int, ...]
    half_widths: Mapping[int, float]
    alarms: tuple[str, ...]


@dataclass(frozen=True)
class StoredDevice:
    """A device, and the state of its machine before its latest session."""

    info: DeviceInfo
    environment: Mapping[str, Any]


@dataclass(frozen=True)
class Sessions:
    """Sessions in the order of measuring, and their devices."""

    timelines: tuple[Timeline, ...]
    devices: tuple[StoredDevice, ...]


@dataclass(frozen=True)
class StoreReport:
    """Result of `report_store`.

    Args:
        reports: Overheads of each device and base.
    """

    contents: Contents
    reports: tuple[OverheadReport, ...]
    sessions: Sessions


def report_store(store: Store, *, feedback: Feedback = SILENT) -> StoreReport:
    """Everything in a store. Raises `InputError` if it cannot be read."""
    store.check()
    with reading(store, feedback) as show:
        rows = store.measurements(progress=lambda share: show(READ * share))
        bases: dict[tuple[DeviceInfo, Workload, str], list[Measurement]] = {}
        for row in rows:
            if row.workload.scope == "model" and row.reference == row.workload.base:
                base = replace(row.reference, phase="decode", tokens=Workload.tokens, past=Workload.past)
                bases.setdefault((row.device, base, row.origin), []).append(row)
        reports = []
        for number, some in enumerate(bases.values()):
            show(READ + (1 - READ) * number / (1 + len(bases)))
            reports.append(_overheads(some))
        return StoreReport(_contents(store.location, rows), tuple(reports), sessions_of(rows))


def contents_of(store: Store, *, feedback: Feedback = SILENT) -> Contents:
    """Kinds of measurements, ordered by the first measurement of each.

    Raises:
        InputError: Pages or rows of the store are damaged.
    """
    store.check()
    return _contents(store.location, read_store(store, feedback))


def _contents(location: str, rows: Sequence[Measurement]) -> Contents:
    kinds: dict[Any, list[Measurement]] = {}
    for row in rows:
        bare = row.workload.with_configuration(Configuration(kind=row.workload.configuration.kind))
        kinds.setdefault((row.device, bare, row.workload.graph, row.origin), []).append(row)
    counted = [
        StoredKind(
            device=device,
            device_hash=device.hash,
            workload=some[0].workload.describe(),
            kind=bare.configuration.kind,
            model=bare.shape.describe(),
            origin=origin,
            adapters=len({row.workload.hash for row in some}),
            rows=len(some),
            incomplete=sum(not row.complete for row in some),
            sessions=len({row.session for row in some}),
            first=min(row.taken_at for row in some),
            last=max(row.taken_at for row in some),
        )
        for (device, bare, _, origin), some in kinds.items()
    ]
    return Contents(location, counted)


def sessions_of(rows: Sequence[Measurement]) -> Sessions:
    """Course of each session in some measurements."""
    sessions: dict[tuple[str, DeviceInfo], list[Measurement]] = {}
    for row in rows:
        sessions.setdefault((row.session, row.device), []).append(row)
    latest = {row.device: row.environment for row in rows}
    devices = tuple(StoredDevice(info, environment) for info, environment in latest.items())
    return Sessions(tuple(map(_timeline, sessions.values())), devices)


def case_of(workload: Workload) -> Case:
    """Adapter of a workload; its placement is `mixed` unless it has one rank on all linears of some kinds."""
    configuration, shape = workload.configuration, workload.shape
    ranks = set(configuration.by_path.values())
    rank = max(ranks, default=0)
    if workload.graph == "open" and not ranks:
        return Case(ALL, 0, configuration)
    kinds = {site.kind for site in shape.sites if site.path in configuration.by_path}
    whole = {site.path for site in shape.sites if site.kind in kinds} == set(configuration.by_path)
    if len(ranks) != 1 or not whole or configuration.cuts_base:
        return Case(MIXED, rank, configuration)
    return Case(ALL if len(configuration.by_path) == len(shape.sites) else ",".join(sorted(kinds)), rank, configuration)


def _overheads(rows: Sequence[Measurement]) -> OverheadReport:
    """The latest measurement of each workload, complete if any is."""
    workload = rows[0].workload
    measured = sorted((row for row in rows if row.visits and not row.failure), key=lambda row: row.complete)
    latest = {row.workload: row for row in measured}
    lost = {row.workload: row.failure for row in rows if row.failure and row.workload not in latest}
    failed = [(workload, case_of(workload), failure) for workload, failure in lost.items()]
    return OverheadReport(
        model=workload.shape.describe(),
        device=rows[0].device.device,
        quantisation=workload.quantisation,
        dtype=workload.dtype,
        linears=len(workload.shape.sites),
        origin=rows[0].origin,
        rows=[row_of(case_of(row.workload), row, band=EQUIVALENCE_BAND) for row in latest.values()],
        failures=[Failure(at.phase, at.length, case.placement, case.rank, at.mode, why) for at, case, why in failed],
    )


def _timeline(rows: Sequence[Measurement]) -> Timeline:
    seconds: dict[int, float] = {}
    changes: list[int] = []
    # Candidates of one group share their rounds.
    groups = {row.reference_visits[0].round: row.reference_visits for row in rows if row.reference_visits}
    for visits in groups.values():
        seconds |= {visit.round: visit.median_s for visit in visits}
        changes += [visits[place].round for place in speed_changes([visit.median_s for visit in visits])]
    ordered = dict(sorted(seconds.items()))
    return Timeline(
        device=rows[0].device.device,
        session=rows[0].session,
        taken_at=rows[0].taken_at,
        rounds=tuple(ordered),
        reference_s=tuple(ordered.values()),
        changes=tuple(sorted(changes)),
        half_widths=_half_widths([row for row in rows if row.visits]),
        alarms=tuple(oddities(rows)),
    )


def _half_widths(rows: Iterable[Measurement]) -> dict[int, float]:
    widest: dict[int, float] = {}
    for row in rows:
        for count in range(LEAST_OPENINGS, 1 + len(set(row.openings.tolist()))):
            width = _first_openings(row, count).ratio.half_width
            widest[count] = max(width, widest.get(count, 0.0)) if math.isfinite(width) else math.inf
    return {count: width for count, width in sorted(widest.items()) if math.isfinite(width)}


def _first_openings(row: Measurement, count: int) -> Measurement:
    numbers = sorted(set(row.openings.tolist()))[:count]
    kept = [place for place, visit in enumerate(row.visits) if visit.opening in numbers]
    visits, reference_visits = (tuple(some[place] for place in kept) for some in (row.visits, row.reference_visits))
    return replace(row, visits=visits, reference_visits=reference_visits)
