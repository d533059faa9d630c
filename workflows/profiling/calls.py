"""One model in one phase, with at most one adapter: its operators, and its parts in isolation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from math import inf
from pathlib import Path

from adaptare.core import DeviceError, InputError, ProgramError
from adaptare.core.progress import SILENT, Feedback
from adaptare.devices import Device
from adaptare.profiler import Measurement, Mode, Phase, Programs, Quantisation, Workload
from adaptare.profiler.analysis import Interval
from adaptare.profiler.measuring import (
    Attribution,
    OperatorCost,
    Operators,
    Parts,
    PreciseWithin,
    ProfiledCalls,
    Session,
    attributions,
    measure_parts,
)
from adaptare.profiler.workloads import Caches
from adaptare.workflows.grid import Case, cases_of
from adaptare.workflows.profiling.campaign import Watched
from adaptare.workflows.target import Target, opened


@dataclass(frozen=True)
class CallRequest:
    """Calls of a model; fields without a description are those of `OverheadRequest`.

    Args:
        adapter: PEFT folder; `None` for the same rank on every site.
        rank: Rank without a folder.
        sites: Kinds of linears with commas; `None` for all linears.
        length: Tokens of prefill, or cached positions of decode.
    """

    model: str
    adapter: Path | None = None
    rank: int = 16
    sites: str | None = None
    device: str | Device = "torch-cpu:threads=1"
    programs: Programs | None = None
    phase: Phase = "decode"
    length: int = 64
    batch: int = 1
    mode: Mode = "swappable"
    cache: Path | None = None

    def opened(self) -> tuple[Target, Programs, Case, Workload]:
        """The device, its programs, the adapter, and the workload without it. Raises `InputError`."""
        target, shape, programs = opened(self.model, self.device, self.programs, cache=self.cache)
        placements = [] if self.sites is None else [self.sites]
        folders = [self.adapter] if self.adapter else []
        (case,) = cases_of(shape, folders, ranks=[self.rank], placements=placements)
        template = target.workload(shape, self.phase, self.length, mode=self.mode, batch=self.batch)
        return target, programs, case, template


@dataclass(frozen=True)
class OperatorRow:
    """Operators of one type in one call, with and without the adapter; shares refer to the profiled calls."""

    operator: str
    base_calls: float
    adapted_calls: float
    base_s: float
    adapted_s: float
    difference_s: float
    base_share: float
    adapted_share: float
    short: bool


@dataclass(frozen=True)
class OperatorsResult:
    """Profiled calls of the base and of the model with the adapter.

    Args:
        device: Spelling of the device; weights have the `quantisation` and `dtype`.
        operators: One row per operator type of either model, most expensive first.
    """

    model: str
    device: str
    quantisation: Quantisation
    dtype: str
    phase: str
    length: int
    placement: str
    sites: int
    rank: int
    mode: str
    base: ProfiledCalls
    adapted: ProfiledCalls
    operators: Sequence[OperatorRow]


def report_operators(request: CallRequest, *, calls: int, feedback: Feedback = SILENT) -> OperatorsResult:
    """Calls a model with and without an adapter, alternately with and without the runtime's profiler.

    Args:
        request: Model and adapter.
        calls: Profiled calls per round.
        feedback: Receives progress.

    Raises:
        InputError: The request is wrong, or the device does not report time by operator.
        ProgramError: The workload fails, or its adapter is not applied.
    """
    target, programs, case, template = request.opened()
    workload = case.on(template)
    for one in (workload.base, workload):
        programs.check(one)
    session, visits = Session(target.device, programs=programs), 2 * Operators.openings
    with feedback.progress("profiling operators") as update:
        done = count(1)
        probe = Operators(calls, visited=lambda: update(next(done) / visits, f"{visits} visits"))
        (measured,) = session.measure([workload], reference=workload.base, probes=[probe])
    if failure := measured.quantities["operators"].failure:
        raise ProgramError(failure)
    base, adapted = attributions(measured)
    return OperatorsResult(
        model=request.model,
        device=target.device.info().device,
        **target.weights,
        phase=workload.phase,
        length=workload.length,
        placement=case.placement,
        sites=len(case.config.ranks),
        rank=case.rank,
        mode=workload.mode,
        base=base.calls,
        adapted=adapted.calls,
        operators=_operator_rows(base, adapted),
    )


def _operator_rows(base: Attribution, adapted: Attribution) -> list[OperatorRow]:
    before, after = ({cost.name: cost for cost in part.operators} for part in (base, adapted))
    rows = []
    for name in before | after:
        without, having = (costs.get(name, OperatorCost(name, 0.0, 0.0)) for costs in (before, after))
        row = OperatorRow(
            operator=name,
            base_calls=without.calls,
            adapted_calls=having.calls,
            base_s=without.seconds,
            adapted_s=having.seconds,
            difference_s=having.seconds - without.seconds,
            base_share=without.seconds / base.calls.profiled_s,
            adapted_share=having.seconds / adapted.calls.profiled_s,
            short=without.short or having.short,
        )
        rows.append(row)
    return sorted(rows, key=lambda row: -max(row.base_s, row.adapted_s))


@dataclass(frozen=True)
class PartRow:
    """One kind of block, the head, or their sum.

    Args:
        latency: Seconds of one of its layers.
        too_few_openings: Number of openings, if these are too few for an interval; else 0.
        layers: Decoder layers of this kind; 0 if not applicable.
        ranks: Ranks of its adapters by path in the first layer.
    """

    latency: Interval
    too_few_openings: int
    layers: int = 0
    ranks: Mapping[str, int] | None = None


@dataclass(frozen=True)
class PartsAt:
    """The parts in one cache state.

    Args:
        blocks: Distinct blocks.
        head: Embedding, last norm and output.
        together: Sum of all layers and the head.
        over_whole: Ratio of this sum to the whole model.
    """

    blocks: Sequence[PartRow]
    head: PartRow
    together: PartRow
    over_whole: Interval


@dataclass(frozen=True)
class PartsResult:
    """The whole model and its parts, by cache state.

    Args:
        device: Spelling of the device; weights have the `quantisation` and `dtype`.
        sites: Number of adapted linears.
        whole_s: Latency of the whole model, seconds.

    Raises:
        InputError: Parts are missing in a cache state, or the whole model takes no time.
    """

    model: str
    device: str
    quantisation: Quantisation
    dtype: str
    phase: str
    length: int
    sites: int
    mode: str
    whole_s: float
    parts: Mapping[Caches, PartsAt]

    def __post_init__(self) -> None:
        states = {caches: len(parts.blocks) for caches, parts in self.parts.items()}
        if set(states) != {"cold", "hot"} or len(set(states.values())) > 1:
            raise InputError(f"parts must be the same with cold and with hot caches, not {states}")
        if not 0 < self.whole_s < inf:
            raise InputError(f"whole_s must be a finite number above 0, not {self.whole_s}")


def report_parts(request: CallRequest, *, stop: PreciseWithin, seed: int, feedback: Feedback = SILENT) -> PartsResult:
    """Times a whole model, and its parts with cold and with hot caches, interleaved.

    Args:
        request: Model and adapter; rank 0 times the base.
        stop: Rule that ends the measurement.
        seed: Seed of the order of visits.
        feedback: Receives progress.

    Raises:
        InputError: The request is wrong, or the parts exceed the memory.
        DeviceError: A part does not run.
    """
    target, programs, case, template = request.opened()
    whole = template.with_configuration(case.config) if case.config.ranks else template.base
    with feedback.progress("measuring parts") as update:
        session = Session(target.device, Watched(stop, lambda: False, update), seed, programs=programs)
        parts = measure_parts(whole, session, caches=("cold", "hot"))
    if failure := next((measured.together.failure for measured in parts.values() if measured.together.failure), ""):
        raise DeviceError(f"a part does not run on {target.name}: {failure}")
    return PartsResult(
        model=request.model,
        device=target.device.info().device,
        **target.weights,
        phase=whole.phase,
        length=whole.length,
        sites=len(whole.configuration.ranks),
        mode=whole.mode,
        whole_s=parts["cold"].head.reference_s,
        parts={caches: _at(measured) for caches, measured in parts.items()},
    )


def _at(parts: Parts) -> PartsAt:
    blocks = [_part_row(block, layers, block.workload.configuration.by_path) for block, layers in parts.blocks]
    return PartsAt(blocks, _part_row(parts.head, 1), _part_row(parts.together), parts.together.ratio)


def _part_row(measured: Measurement, layers: int = 0, ranks: Mapping[str, int] | None = None) -> PartRow:
    return PartRow(measured.value(), measured.too_few_openings, layers, ranks)
