"""Predicted cost of adapters."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adaptare.core import InputError
from adaptare.predictor import FittedPredictor, load_predictor
from adaptare.profiler import Configuration
from adaptare.profiler.analysis import Interval
from adaptare.profiler.programs import memory_bytes
from adaptare.profiler.workloads import BYTES
from adaptare.search.budget import Budget, covering
from adaptare.workflows.adapter_files import read_adapters
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
    """

    predictor: Path
    adapters: Sequence[Path] = ()
    ranks: Sequence[int] = ()
    sites: Sequence[str] = ()
    length: int | None = None
    budget: Budget | None = None
    device: str | None = None


@dataclass(frozen=True)
class PredictedRow:
    """Prediction for one adapter.

    Args:
        sites: Number of linears with an adapter.
        predicted: Predicted value in the unit of the quantity, with its interval.
        overhead: Relative to the base, minus one.
        memory_bytes: Weights, adapter and cache.
        adapter_bytes: Memory of the adapter alone.
        extrapolates: True if it lies outside the range of the training rows.
        within: Probability of meeting the budget; `None` without one.
    """

    adapter: str
    sites: int
    predicted: Interval
    overhead: float
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


def predict_adapters(request: PredictRequest) -> PredictResult:
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
    fitted = fitted if budget is None else covering(budget, fitted)
    fitted = fitted if request.length is None else fitted.at(request.length)
    if request.device:
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
        rows=_rows(fitted, _adapters(request, fitted), None if budget is None else budget.bound(fitted.base_value)),
    )


def _adapters(request: PredictRequest, fitted: FittedPredictor) -> list[tuple[str, Configuration]]:
    shape = fitted.template.shape
    if not request.ranks:
        return [pair for path in request.adapters for pair in read_adapters(path, shape).items()]
    cases = cases_of(shape, [], ranks=request.ranks, placements=request.sites)
    return [(f"{case.placement} r{case.rank}", Configuration.of(case.config.by_path)) for case in cases]


def _rows(
    fitted: FittedPredictor, adapters: list[tuple[str, Configuration]], limit: float | None
) -> tuple[PredictedRow, ...]:
    template, configs = fitted.template, [config for _, config in adapters]
    predicted = fitted.predict_configs(configs)
    within = None if limit is None else fitted.probability_within(configs, limit)
    return tuple(
        PredictedRow(
            adapter=adapter,
            sites=len(config.ranks),
            predicted=predicted.interval(row),
            overhead=float(predicted.mean[row] / fitted.base_value - 1),
            memory_bytes=memory_bytes(template.with_configuration(config)),
            adapter_bytes=BYTES[template.dtype] * config.adapter_parameters(template.shape),
            extrapolates=bool(predicted.extrapolates[row]),
            within=None if within is None else float(within[row]),
        )
        for row, (adapter, config) in enumerate(adapters)
    )
