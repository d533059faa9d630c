"""Overhead of adapters on a device: one campaign over all phases, and all results derived from it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from adaptare.core import AdaptareError, InputError
from adaptare.core.units import COMPOSED
from adaptare.profiler import Measurement, ModelShape, Programs, Workload
from adaptare.profiler.measuring.probes import Energy as EnergyProbe
from adaptare.profiler.measuring.probes import Latency, counts_energy
from adaptare.workflows.comparison import Compared
from adaptare.workflows.grid import Case, cases_of, grid, phases_of, workloads_of
from adaptare.workflows.overhead.energy_rows import Energy, energy_of, not_available
from adaptare.workflows.overhead.merge_or_swap import MergeOrSwap, largest_case, weigh_ways
from adaptare.workflows.overhead.overhead_rows import (
    Row,
    Slope,
    differences,
    price_of_precision,
    row_of,
    slopes,
)
from adaptare.workflows.overhead.request_rows import Request, cached_positions, requests_of
from adaptare.workflows.profiling.campaign import Campaign, check_memory
from adaptare.workflows.target import Target


@dataclass(frozen=True)
class OverheadRequest:
    """Adapters, and the phases in which they are measured; fields as in `overhead`."""

    model: str
    shape: ModelShape
    target: Target
    programs: Programs
    adapters: Sequence[Path]
    ranks: Sequence[int]
    placements: Sequence[str]
    prompts: Sequence[int]
    depths: Sequence[int]
    generated: int
    tasks: int
    energy: bool
    batch: int
    stubs: bool

    @property
    def base(self) -> Workload:
        """The base workload: shape, batch and weights."""
        return Workload(self.shape, batch=self.batch, **self.target.weights)

    @cached_property
    def cases(self) -> list[Case]:
        """Adapters of the request."""
        return cases_of(self.shape, self.adapters) if self.adapters else grid(self.shape, self.ranks, self.placements)

    @cached_property
    def phases(self) -> list[dict[Workload, Case]]:
        """Workloads of each phase, mapped to their adapters."""
        pasts = [*self.depths, *cached_positions(self.prompts, self.generated)]
        phases = phases_of(self.base, prompts=self.prompts, pasts=pasts)
        return [workloads_of(phase, self.cases, self.programs) for phase in phases]

    @cached_property
    def counts_energy(self) -> bool:
        """True if energy is requested and the device has a counter."""
        return self.energy and counts_energy(self.target.device)

    def check(self) -> None:
        """Raises `InputError` if the device cannot run what is asked for, or lacks the memory; see `check_request`."""
        if self.tasks:
            largest_case(self.cases, self.base)
        if len(self.phases) > 1 and not self.stubs:
            check_memory([list(phase) for phase in self.phases], device=self.target.device, programs=self.programs)


def check_request(
    prompts: Sequence[int], depths: Sequence[int], *, generated: int, tasks: int, energy: bool, stubs: bool
) -> None:
    """Raises `InputError` if nothing is left to measure, or options exclude each other; see `OverheadRequest`."""
    if not prompts and not depths:
        raise InputError("nothing is left to measure; give -p above 0 or -d at least 0")
    if stubs and (tasks or energy):
        whole = "--tasks" if tasks else "--energy"
        raise InputError(f"{whole} loads whole models, and --stubs none; give one of them")
    for name, count in (("generated", generated), ("tasks", tasks)):
        if count < 0:
            raise InputError(f"{name} must be at least 0, not {count}")
    cached_positions(prompts, generated)


@dataclass(frozen=True)
class Failure:
    """An adapter that could not be measured, with the reason; see `Row`."""

    phase: str
    length: int
    placement: str
    rank: int
    mode: str
    reason: str


@dataclass(frozen=True)
class OverheadReport:
    """Result of `measure_overhead`.

    Args:
        price: Formatted estimate of the time for narrower intervals; empty if unknown.
        differences: Comparisons of the other adapters with the `first`, by name.
        energy: `None` if not requested.
        merge_or_swap: `None` if not requested.
        device_name: Spelling of the device, with the weight format.
    """

    title: str
    place: Mapping[str, str]
    rows: Sequence[Row]
    slopes: Sequence[Slope]
    price: str
    differences: Mapping[str, Sequence[Compared]]
    requests: Sequence[Request]
    energy: Energy | None
    merge_or_swap: MergeOrSwap | None
    failures: Sequence[Failure]
    first: str
    device_name: str

    def to_json(self) -> dict[str, Any]:
        """See `Report`."""
        hidden = ("title", "place", "price", "first", "device_name")
        return {**self.place, **{name: value for name, value in asdict(self).items() if name not in hidden}}


def measure_overhead(request: OverheadRequest, campaign: Campaign, *, band: float) -> OverheadReport:
    """Measures every phase of a request, and derives the other requested results.

    Args:
        request: Adapters and phases.
        band: Equivalence band; smaller differences count as the same.
    """
    if request.counts_energy:
        campaign.feedback.note("counting energy: a second of calls without a pause, eight times for each row and base")
        campaign = replace(campaign, probes=(Latency(), EnergyProbe()))
    measured: list[tuple[Case, Measurement]] = []
    case_of = {workload: case for phase in request.phases for workload, case in phase.items()}

    def seen(partial: Sequence[Measurement]) -> None:
        both = [*measured, *((case_of[row.workload], row) for row in partial if row.visits)]
        campaign.feedback.preview(_report(request, campaign, both, band=band))

    for phase in request.phases:
        title = f"measuring {next(iter(phase)).phase}"
        group = campaign.kept(list(phase)) or campaign.measure(list(phase), title=title, seen=seen)
        measured += [(case_of[row.workload], row) for row in group]
    report = _report(request, campaign, measured, band=band)
    if request.energy and not request.counts_energy:
        report = replace(report, energy=not_available(request.target.device))
    elif request.energy and report.rows:
        report = replace(report, energy=energy_of([(case, row) for case, row in measured if not row.failure]))
    try:
        if request.tasks and report.rows:
            largest = largest_case(request.cases, request.base)
            ways = weigh_ways(report.rows, largest, request.base, tasks=request.tasks, campaign=campaign)
            report = replace(report, merge_or_swap=ways)
    except AdaptareError:
        campaign.feedback.show(report)  # took the most time, and is not affected
        raise
    return report


def _report(
    request: OverheadRequest, campaign: Campaign, measured: Sequence[tuple[Case, Measurement]], *, band: float
) -> OverheadReport:
    """Results that follow from measurements."""
    target, cases = request.target, request.cases
    complete = [(case, row) for case, row in measured if not row.failure]
    rows = [row_of(case, row, band=band) for case, row in complete]
    sites = f"{len(request.shape.sites)} linears"
    return OverheadReport(
        title=f"{request.model} on {target.name}: adapters on {sites} or some of them{COMPOSED * campaign.stubs}",
        place={"model": request.model, **target.place},
        rows=rows,
        slopes=slopes(complete),
        price=price_of_precision([row for _, row in complete], campaign.stop.half_width),
        differences=differences(complete, cases, band=band) if request.adapters else {},
        requests=requests_of(rows, prompts=request.prompts, generated=request.generated, band=band),
        energy=None,
        merge_or_swap=None,
        failures=[_failure(case, row) for case, row in measured if row.failure],
        first=cases[0].placement,
        device_name=target.name,
    )


def _failure(case: Case, row: Measurement) -> Failure:
    workload = row.workload
    return Failure(workload.phase, workload.length, case.placement, case.rank, workload.mode, row.failure)
