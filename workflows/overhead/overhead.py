"""Overhead of adapters on a device: one campaign over all phases, and all results derived from it."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ParamSpec

from adaptare.core import AdaptareError, InputError
from adaptare.core.progress import SILENT, Feedback
from adaptare.profiler import Measurement, Quantisation, Store, Workload
from adaptare.profiler.measuring import Energy as EnergyProbe
from adaptare.profiler.measuring import Latency, Session, counts_energy
from adaptare.profiler.store import Origin
from adaptare.workflows.comparison import Compared
from adaptare.workflows.grid import Case, cases_of, workloads_of
from adaptare.workflows.overhead.energy_rows import Energy, energy_of
from adaptare.workflows.overhead.merge_or_swap import MergeOrSwap, weigh_ways
from adaptare.workflows.overhead.overhead_rows import (
    ComposedRequest,
    PriceOfPrecision,
    Row,
    Slope,
    differences,
    price_of_precision,
    requests_of,
    row_of,
    slopes,
)
from adaptare.workflows.overhead.request import OverheadRequest
from adaptare.workflows.profiling.campaign import Campaign
from adaptare.workflows.target import opened

P = ParamSpec("P")


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
        linears: Number of linears of the base that may carry an adapter.
        origin: `composed` if whole models are composed from stubs.
        price: Time that narrower intervals would take; `None` if unknown.
        first: Name of the first adapter.
        differences: Comparisons of the other adapters with the first, by name.
        energy: `None` if not requested.
        merge_or_swap: `None` if not requested.
    """

    model: str
    device: str
    quantisation: Quantisation
    dtype: str
    linears: int
    origin: Origin
    rows: Sequence[Row]
    slopes: Sequence[Slope]
    price: PriceOfPrecision | None
    first: str
    differences: Mapping[str, Sequence[Compared]]
    requests: Sequence[ComposedRequest]
    failures: Sequence[Failure]
    energy: Energy | None = None
    merge_or_swap: MergeOrSwap | None = None


def measure_overhead(request: OverheadRequest, *, feedback: Feedback = SILENT) -> OverheadReport:
    """Measures every phase of a request, and derives the other requested results.

    Args:
        request: Adapters, phases and limits.
        feedback: Receives notes, progress, and the report so far.

    Raises:
        InputError: Nothing is left to measure, or the device cannot run it or lacks the memory.
        DeviceError: The base does not run.
    """
    request.check()
    target, shape, programs = opened(request.model, request.device, request.programs, cache=request.cache)
    device, base = target.device, Workload(shape, batch=request.batch, **target.weights)
    cases = cases_of(shape, request.folders, ranks=request.ranks, placements=request.placements)
    largest = max(cases, key=lambda case: case.config.adapter_parameters(shape))
    if request.tasks and not largest.rank:
        raise InputError("tasks compare ways to apply an adapter; give one of rank 1 or more")
    phases = workloads_of(base, cases, programs, prompts=request.prompts, pasts=request.pasts)
    if len(phases) > 1 and not request.stubs:
        for phase in phases:  # raises if one exceeds the memory, before any is measured
            Session(device, programs=programs).split(list(phase), reference=next(iter(phase)).base)
    counting = request.energy and counts_energy(device)
    if counting:
        feedback.note("measuring energy: eight times one second of calls for each row and for the base")
    campaign = Campaign(
        device,
        programs,
        Store(request.store),
        request.stop,
        request.seed,
        recalibrate=request.recalibrate,
        stubs=request.stubs,
        resume=request.resume,
        feedback=feedback,
        probes=(Latency(), EnergyProbe()) if counting else (Latency(),),
    )
    case_of = {workload: case for phase in phases for workload, case in phase.items()}
    measured: list[tuple[Case, Measurement]] = []

    def report_of(rows: Sequence[tuple[Case, Measurement]]) -> OverheadReport:
        return _report(request, base, cases, rows, campaign)

    def seen(partial: Sequence[Measurement]) -> None:
        feedback.preview(report_of([*measured, *((case_of[row.workload], row) for row in partial if row.visits)]))

    for phase in phases:
        title = f"measuring {next(iter(phase)).phase}"
        group = campaign.kept(list(phase)) or campaign.measure(list(phase), title=title, seen=seen)
        measured += [(case_of[row.workload], row) for row in group]
    report, complete = report_of(measured), [(case, row) for case, row in measured if not row.failure]
    if request.energy and not counting:
        reason = f"not available: {report.device} has no counter that can be read, and energy is not estimated"
        report = replace(report, energy=Energy(reason=reason))
    elif counting and complete:
        report = replace(report, energy=energy_of(complete))
    try:
        if request.tasks and complete:
            rows = [row for case, row in complete if case == largest]
            ways = weigh_ways(largest, rows, tasks=request.tasks, band=request.band, campaign=campaign)
            report = replace(report, merge_or_swap=ways)
    except AdaptareError:
        feedback.show(report)  # took the most time, and is not affected
        raise
    return report


def _measured(request: Callable[P, OverheadRequest]) -> Callable[P, OverheadReport]:
    @functools.wraps(request)
    def overhead(*args: P.args, **kwargs: P.kwargs) -> OverheadReport:
        return measure_overhead(request(*args, **kwargs))

    overhead.__name__ = overhead.__qualname__ = "overhead"
    return overhead


# Takes the parameters of a request.
overhead = _measured(OverheadRequest)


def _report(
    request: OverheadRequest,
    base: Workload,
    cases: Sequence[Case],
    measured: Sequence[tuple[Case, Measurement]],
    campaign: Campaign,
) -> OverheadReport:
    """Results that follow from measurements."""
    complete = [(case, row) for case, row in measured if not row.failure]
    rows = [row_of(case, row, band=request.band) for case, row in complete]
    failed = [(row.workload, case, row.failure) for case, row in measured if row.failure]
    return OverheadReport(
        model=request.model,
        device=campaign.device.info().device,
        quantisation=base.quantisation,
        dtype=base.dtype,
        linears=len(base.shape.sites),
        origin=campaign.origin,
        rows=rows,
        slopes=slopes(complete),
        price=price_of_precision([row for _, row in complete], request.half_width),
        first=cases[0].placement,
        differences=differences(complete, cases, band=request.band) if request.folders else {},
        requests=requests_of(rows, prompts=request.prompts, generated=request.generated, band=request.band),
        failures=[Failure(at.phase, at.length, case.placement, case.rank, at.mode, why) for at, case, why in failed],
    )
