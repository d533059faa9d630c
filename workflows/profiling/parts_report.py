"""Latency of isolated blocks and head, with cold and hot caches, and their sum compared with the whole model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adaptare.core import DeviceError
from adaptare.core.progress import SILENT, Feedback
from adaptare.profiler import Measurement, Quantisation
from adaptare.profiler.analysis import Interval
from adaptare.profiler.measuring import Parts, PreciseWithin, Session, measure_parts
from adaptare.profiler.workloads import Caches
from adaptare.workflows.profiling.call import CallRequest
from adaptare.workflows.profiling.campaign import Watched


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
    blocks = [_row(block, layers, block.workload.configuration.by_path) for block, layers in parts.blocks]
    return PartsAt(blocks, _row(parts.head, 1), _row(parts.together), parts.together.ratio)


def _row(measured: Measurement, layers: int = 0, ranks: Mapping[str, int] | None = None) -> PartRow:
    return PartRow(measured.value(), measured.too_few_openings, layers, ranks)
