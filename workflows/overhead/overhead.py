"""Overhead of adapters on a device: one campaign over all phases, and all results derived from it."""

import functools
import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, ParamSpec

from adaptare.core import AdaptareError, InputError
from adaptare.core.codec import to_json
from adaptare.core.progress import SILENT, Feedback
from adaptare.devices import Device, DeviceInfo
from adaptare.profiler import Measurement, Programs, Quantisation, Store, Workload, precise_within
from adaptare.profiler.analysis import EQUIVALENCE_BAND
from adaptare.profiler.measuring import Energy, Latency, PreciseWithin, Session, counts_energy
from adaptare.profiler.store import Origin
from adaptare.workflows.comparison import Compared
from adaptare.workflows.grid import Case, cases_of, workloads_of
from adaptare.workflows.overhead.merge_or_swap import MergeOrSwap, weigh_ways
from adaptare.workflows.overhead.overhead_rows import (
    ComposedRequest,
    EnergyRows,
    PriceOfPrecision,
    Row,
    Slope,
    differences,
    energy_of,
    price_of_precision,
    requests_of,
    row_of,
    slopes,
)
from adaptare.workflows.profiling.campaign import Campaign
from adaptare.workflows.target import opened

P = ParamSpec("P")
# Parameters of a request that repeat nothing elsewhere, and its device, which is named with its identity.
HERE: Final = ("device", "programs", "cache", "resume")


@dataclass(frozen=True)
class OverheadRequest:
    """Measures adapters and their base, in every mode that the runtime has, and keeps all samples in a store.

    Args:
        model: A folder, a hub id, a `config.json`, a GGUF file, `smollm2-135m` or `tiny-random`.
        adapters: PEFT folders, or adapter files of ONNX Runtime; the first is compared with the others.
        device: A `Device`, or its spelling, such as `ort-cpu:int4,threads=1`.
        programs: Builder of the device's programs; by default the one that is registered for its runtime.
        ranks: Without adapters: the same rank on every linear of each placement.
        placements: Without adapters: kinds of linears with commas (`q_proj,v_proj`); none for all linears.
        prompts: Tokens of prefill; none for no prefill.
        depths: Cached positions of decode; none for no decode.
        generated: Tokens after the first one of each prompt, for the latency of whole requests.
        tasks: Adapters to serve, for a comparison of merging and swapping.
        energy: True to count joules, where the device can.
        batch: Sequences at once.
        half_width: Measuring ends when every interval is this narrow; 0.01 is 1 %.
        seconds: Time limit of each phase and group of programs, including loading.
        openings: Maximum number of fresh loads of every program.
        band: Equivalence band; smaller differences are `same`.
        recalibrate: True to scale latencies to the present speed of the base, even if it changed little.
        stubs: True to compose whole models from models of fewer layers.
        resume: True to take phases that the store has complete, instead of measuring them again.
        store: File or database URL.
        cache: Folder for converted models; the user's cache folder if `None`.
        seed: Seed of every random choice.
    """

    model: str
    adapters: str | Path | Sequence[str | Path] = ()
    device: str | Device = "torch-cpu:threads=1"
    programs: Programs | None = None
    ranks: Sequence[int] = (16,)
    placements: Sequence[str] = ()
    prompts: Sequence[int] = (64,)
    depths: Sequence[int] = (64,)
    generated: int = 0
    tasks: int = 0
    energy: bool = False
    batch: int = 1
    half_width: float = 0.01
    seconds: float = 60.0
    openings: int | None = None
    band: float = EQUIVALENCE_BAND
    recalibrate: bool = False
    stubs: bool = False
    resume: bool = False
    store: str | Path = "adaptare.db"
    cache: str | Path | None = None
    seed: int = 0

    @property
    def stop(self) -> PreciseWithin:
        """Stopping rule of each group of programs."""
        return precise_within(self.half_width, self.seconds, self.openings)

    @property
    def folders(self) -> list[Path]:
        """Folders of the adapters."""
        given = [self.adapters] if isinstance(self.adapters, str | Path) else self.adapters
        return [Path(folder) for folder in given]

    @property
    def pasts(self) -> list[int]:
        """Cache lengths at which decode is measured, also for the first and last token after each prompt."""
        ends = [past for prompt in self.prompts for past in (prompt, prompt + self.generated - 1)]
        return list(dict.fromkeys([*self.depths, *(ends if self.generated else [])]))

    @property
    def changed(self) -> dict[str, Any]:
        """Parameters that differ from their defaults, as plain JSON values, without those of this machine."""
        own = {each.name: to_json(getattr(self, each.name)) for each in fields(self) if each.name not in HERE}
        usual = {each.name: to_json(each.default) for each in fields(self) if each.name in own and each.name != "model"}
        return {name: value for name, value in own.items() if name not in usual or value != usual[name]}

    def check(self) -> None:
        """Raises `InputError` if nothing is left to measure, or parameters exclude each other or are out of range."""
        if not self.prompts and not self.depths:
            raise InputError("nothing is left to measure; give lengths of prefill or decode", parameter="prompts")
        if self.stubs and (self.tasks or self.energy):
            whole = "a comparison for several tasks" if self.tasks else "counting energy"
            raise InputError(f"{whole} loads whole models, and stubs replace them; choose one", parameter="stubs")
        for name, count in (("generated", self.generated), ("tasks", self.tasks)):
            if count < 0:
                raise InputError(f"{name} must be at least 0, not {count}")
        if self.generated and not self.prompts:
            raise InputError("generated tokens follow a prompt; give its number of tokens", parameter="prompts")
        if self.folders and self.placements:
            raise InputError("an adapter has sites of its own; give it without placements", parameter="placements")
        precise_within(self.half_width, self.seconds, self.openings)


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
class Provenance:
    """Origin of a report: device, place of the samples, and what repeats it.

    Args:
        store: File or URL of the store that keeps all samples.
        sessions: Sessions of the store.
        version: Version of adaptare.
        request: Parameters of the request that differ from their defaults.
    """

    device: DeviceInfo
    store: str
    sessions: Sequence[str]
    version: str
    request: Mapping[str, Any]


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
        provenance: `None` in results of earlier versions.
    """

    model: str
    device: str
    quantisation: Quantisation
    dtype: str
    linears: int
    origin: Origin
    rows: Sequence[Row]
    slopes: Sequence[Slope] = ()
    price: PriceOfPrecision | None = None
    first: str = ""
    differences: Mapping[str, Sequence[Compared]] = field(default_factory=dict)
    requests: Sequence[ComposedRequest] = ()
    failures: Sequence[Failure] = ()
    energy: EnergyRows | None = None
    merge_or_swap: MergeOrSwap | None = None
    provenance: Provenance | None = None


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
        probes=(Latency(), Energy()) if counting else (Latency(),),
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
        report = replace(report, energy=EnergyRows(reason=reason))
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
        provenance=Provenance(
            campaign.device.info(),
            campaign.store.location,
            list(dict.fromkeys(row.session for _, row in measured)),
            importlib.metadata.version("adaptare"),
            request.changed,
        ),
    )
