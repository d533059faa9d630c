"""Predicted cost of adapters."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adaptare.core import InputError
from adaptare.core.progress import SILENT, Feedback
from adaptare.predictor import FittedPredictor, load_predictor
from adaptare.profiler import Configuration
from adaptare.profiler.analysis import Interval
from adaptare.profiler.programs import memory_bytes
from adaptare.profiler.workloads import BYTES
from adaptare.search.budget import Budget, covering
from adaptare.workflows.adapter_files import read_adapters
from adaptare.workflows.calibrating import Recalibration, recalibrated
from adaptare.workflows.grid import cases_of
from adaptare.workflows.target import named_target


@dataclass(frozen=True)
class PredictRequest:
    """Adapters to predict.

    Args:
        predictor: Files of a predictor.
        adapters: PEFT folders, JSON files of module path or glob to rank, or CSV files of many adapters.
        ranks: Instead of adapters, ranks of a grid.
        sites: Placements of the grid; empty: all linears.
        length: Tokens of prefill, or cached positions of decode; `None` for that of the budget, or the longest fitted.
        budget: Budget to be met.
        device: Device that the predictor must be of.
        recalibrate: True to measure the base first, so that milliseconds are of the present session.
        cache: Folder of converted models; `None` for the user's cache folder.
    """

    predictor: Path
    adapters: Sequence[Path] = ()
    ranks: Sequence[int] = ()
    sites: Sequence[str] = ()
    length: int | None = None
    budget: Budget | None = None
    device: str | None = None
    recalibrate: bool = False
    cache: Path | None = None


@dataclass(frozen=True)
class PredictedRow:
    """Prediction for one adapter.

    Args:
        sites: Number of linears with an adapter.
        predicted: Predicted value in the unit of the quantity, with its interval for a new session, in which the base
            differs too; after a recalibration, for the present session.
        overhead: Predicted ratio to the base minus one, with its interval, which the base does not widen.
        memory_bytes: Weights, adapter and cache.
        adapter_bytes: Memory of the adapter alone.
        extrapolates: True if it lies outside the range of the training rows.
        within: Probability of meeting the budget, from the interval of the overhead if the budget is relative; `None`
            without one.
    """

    adapter: str
    sites: int
    predicted: Interval
    overhead: Interval
    memory_bytes: int
    adapter_bytes: int
    extrapolates: bool
    within: float | None


@dataclass(frozen=True)
class PredictResult:
    """Predictions in the order of the adapters.

    Args:
        predictor: Name of the predictor's files.
        device: Spelling of its device.
        workload: Description of the workloads.
        base: Value of the base, in the unit of the quantity.
        level: Coverage probability of the intervals.
        origin: See `FittedPredictor.origin`.
        budget: The budget as text; empty without one.
        recalibration: Base at the time of the prediction; `None` for predictions of any session.
    """

    predictor: Path
    device: str
    workload: str
    quantity: str
    unit: str
    base: float
    level: float
    origin: str
    budget: str
    rows: tuple[PredictedRow, ...]
    recalibration: Recalibration | None = None


def predict_adapters(request: PredictRequest, *, feedback: Feedback = SILENT) -> PredictResult:
    """Predicts adapters without running them.

    Raises:
        InputError: Nothing is asked for, a file cannot be read, or the predictor does not cover an adapter, the length,
            the budget or the device.
    """
    if not request.adapters and not request.ranks:
        raise InputError("there is nothing to predict; name adapters or ranks")
    budget, fitted = request.budget, load_predictor(request.predictor)
    if budget and request.length is not None and budget.length not in (None, request.length):
        raise InputError(f"budget {budget} is of another length than {request.length}; give one of them")
    length = budget.length if budget and request.length is None else request.length
    if budget:
        covering(budget, fitted)  # raises before anything is measured
    fitted, now = fitted if length is None else fitted.at(length), None
    adapters = _adapters(request, fitted)
    if request.recalibrate:
        device, cache = request.device, request.cache
        fitted, now = recalibrated(fitted, request.predictor, device=device, cache=cache, feedback=feedback)
    elif request.device is not None:
        target = named_target(request.device, fitted.device, fitted.template)
        load_predictor(request.predictor, device=target.device.info())
    return PredictResult(
        predictor=request.predictor,
        device=fitted.device.device,
        workload=fitted.template.describe(),
        quantity=fitted.quantity,
        unit=fitted.unit,
        base=fitted.base_value,
        level=fitted.level,
        origin=fitted.origin,
        budget=str(budget) if budget else "",
        rows=_rows(fitted, adapters, budget),
        recalibration=now,
    )


def _adapters(request: PredictRequest, fitted: FittedPredictor) -> list[tuple[str, Configuration]]:
    shape = fitted.template.shape
    if not request.ranks:
        return [pair for path in request.adapters for pair in read_adapters(path, shape).items()]
    cases = cases_of(shape, [], ranks=request.ranks, placements=request.sites)
    return [(f"{case.placement} r{case.rank}", Configuration.of(case.config.by_path)) for case in cases]


def _rows(
    fitted: FittedPredictor, adapters: list[tuple[str, Configuration]], budget: Budget | None
) -> tuple[PredictedRow, ...]:
    template, base, configs = fitted.template, fitted.base_value, [config for _, config in adapters]
    predicted, ratios = fitted.predict_configs(configs), fitted.relative.predict_configs(configs)
    within = None
    if budget:
        within = (fitted.relative if budget.relative else fitted).probability_within(configs, budget.bound(base))
    return tuple(
        PredictedRow(
            adapter=adapter,
            sites=len(config.ranks),
            predicted=predicted.interval(row),
            overhead=Interval(*(float(end[row]) / base for end in (ratios.lower, ratios.mean, ratios.upper))).over_one,
            memory_bytes=memory_bytes(template.with_configuration(config)),
            adapter_bytes=BYTES[template.dtype] * config.adapter_parameters(template.shape),
            extrapolates=bool(predicted.extrapolates[row]),
            within=None if within is None else float(within[row]),
        )
        for row, (adapter, config) in enumerate(adapters)
    )
