"""Fit of a predictor to stored measurements."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from adaptare.devices import DeviceInfo
from adaptare.predictor import ErrorCard, LatencyPredictor, load_predictor, save_predictor
from adaptare.profiler.analysis import Interval
from adaptare.profiler.store import LATENCY
from adaptare.workflows.fit.fit_rows import RowFilter, rows_to_fit
from adaptare.workflows.fit.predictor_name import default_name, reason_to_keep


@dataclass(frozen=True)
class FitRequest:
    """A predictor to fit and to write.

    Args:
        store: The store.
        device: The reachable device in its current state, if measured; else the one stored under this spelling or hash.
            `None`: the only device of the store, with any weights.
        rows: Filter on the workloads.
        quantity: Measured quantity to predict.
        regressor: Name of a regressor; `None` for the choice by the error on held-out adapters.
        source: Predictor of another device or model to transfer from.
        output: Name of the files; `None` for `predictor-PHASE[-LENGTH...][-BASE][-open]`.
        replace: True to overwrite any predictor of this name.
    """

    store: str
    device: str | None = None
    rows: RowFilter = field(default_factory=RowFilter)
    quantity: str = LATENCY
    regressor: str | None = None
    source: Path | None = None
    output: Path | None = None
    replace: bool = False


@dataclass(frozen=True)
class HeldOut:
    """Measured value of a row, and its prediction by a fit without its adapter, in the unit of the quantity."""

    measured: float
    predicted: Interval


@dataclass(frozen=True)
class FitResult:
    """A fitted predictor and its errors.

    Args:
        predictor: Name of its files.
        files: The written files; empty if an earlier predictor of this name is kept.
        kept: Reason why that one is kept; empty if it is not.
        workload: Description of the predicted workloads.
        lengths: Fitted lengths.
        base: Value of the base at the longest length, in the unit of the quantity.
        base_left_out: Relative error of the base at each inner length if its neighbours determine it.
        chosen: Name of the fit.
        reason: Reason for the choice.
        transfer: The predictor to transfer from, if one was given.
        source: Its device, if the fit uses its coefficients.
        error_card: Errors on held-out adapters, also of other regressors.
        held_out: The rows of these errors.
    """

    predictor: Path
    files: tuple[Path, ...]
    kept: str
    device: DeviceInfo
    quantity: str
    unit: str
    workload: str
    quantisation: str
    dtype: str
    phase: str
    mode: str
    open: bool
    lengths: tuple[int, ...]
    base: float
    base_left_out: Mapping[int, float]
    chosen: str
    reason: str
    transfer: Path | None
    source: DeviceInfo | None
    error_card: ErrorCard
    held_out: tuple[HeldOut, ...]


def fit_rows(request: FitRequest, *, note: Callable[[str], None]) -> FitResult:
    """Fits a predictor and writes it, unless an earlier one of the same kind is expected to be better.

    Args:
        note: Called with remarks on the rows.

    Raises:
        InputError: There are no such rows or they are of several kinds, or another predictor has this name.
    """
    rows = rows_to_fit(request.store, request.device, request.rows, note, quantity=request.quantity)
    source = load_predictor(request.source) if request.source else None
    predictor = LatencyPredictor(quantity=request.quantity, regressor=request.regressor).fit(rows, source=source)
    name = request.output or default_name(predictor, lengths=request.rows.lengths, every_site=bool(request.rows.open))
    kept = "" if request.replace else reason_to_keep(predictor, name)
    files = () if kept else save_predictor(predictor, name)
    template = predictor.template
    *ratios, base = predictor.left_out
    ends = zip(*(base * each for each in ratios), strict=True)
    same = ("device", "quantity", "unit", "lengths", "chosen", "reason", "source", "error_card")
    return FitResult(
        predictor=name,
        files=files,
        kept=kept,
        workload=template.describe(),
        open=template.graph == "open",
        base=predictor.base_value,
        base_left_out=predictor.base.left_out,
        transfer=request.source,
        held_out=tuple(
            HeldOut(float(measured), Interval(float(middle - half), float(middle), float(middle + half)))
            for measured, middle, half in ends
        ),
        **{field: getattr(predictor, field) for field in same},
        **{field: getattr(template, field) for field in ("quantisation", "dtype", "phase", "mode")},
    )
