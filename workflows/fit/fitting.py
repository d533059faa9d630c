"""Fit of a predictor to stored measurements."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from adaptare.core import InputError
from adaptare.core.progress import Feedback
from adaptare.devices import DeviceInfo
from adaptare.predictor import ErrorCard, FittedPredictor, LatencyPredictor, files_of, load_predictor, save_predictor
from adaptare.profiler.analysis import Interval
from adaptare.profiler.store import LATENCY
from adaptare.workflows.fit.fit_rows import RowFilter, rows_to_fit
from adaptare.workflows.target import weight_words


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


def fit_rows(request: FitRequest, *, feedback: Feedback) -> FitResult:
    """Fits a predictor and writes it, unless an earlier one of the same kind is expected to be better.

    Args:
        feedback: Receives remarks on the rows, and progress.

    Raises:
        InputError: There are no such rows or they are of several kinds, or another predictor has this name.
    """
    if request.output and not request.output.parent.is_dir():
        raise InputError(
            f"the predictor cannot be written: there is no folder {str(request.output.parent)!r}; create it"
        )
    rows = rows_to_fit(request.store, request.device, request.rows, feedback, quantity=request.quantity)
    source = load_predictor(request.source) if request.source else None
    settings = LatencyPredictor(quantity=request.quantity, regressor=request.regressor)
    with feedback.progress("fitting") as update:
        predictor = settings.fit(rows, source=source, progress=lambda share: update(share, f"{len(rows)} rows"))
    name = request.output or default_name(predictor, lengths=request.rows.lengths, every_site=bool(request.rows.open))
    kept = "" if request.replace else reason_to_keep(predictor, name)
    files = () if kept else save_predictor(predictor, name)
    template = predictor.template
    measured, predicted, half_widths, base = predictor.left_out
    factors = np.exp(half_widths)
    ends = (base * np.array([measured, predicted / factors, predicted, predicted * factors])).T
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
        held_out=tuple(HeldOut(own, Interval(lower, middle, upper)) for own, lower, middle, upper in ends.tolist()),
        **{field: getattr(predictor, field) for field in same},
        **{field: getattr(template, field) for field in ("quantisation", "dtype", "phase", "mode")},
    )


def default_name(predictor: FittedPredictor, *, lengths: Sequence[int], every_site: bool) -> Path:
    """`predictor[-QUANTITY]-PHASE[-LENGTH...][-BASE][-open]`, with the weights of the base unless they are the default.

    Args:
        predictor: Predictor to write.
        lengths: Lengths that the user gave.
        every_site: True to mark that graphs have every site open (taking an adapter at run time).
    """
    template = predictor.template
    weights = weight_words(template.quantisation, template.dtype)
    words = [] if predictor.quantity == LATENCY else [predictor.quantity.replace("_", "-")]
    words += [template.phase, *map(str, lengths), *weights, *["open"] * every_site]
    return Path("-".join(["predictor", *words]))


def reason_to_keep(predictor: FittedPredictor, base: Path) -> str:
    """Reason why a predictor should not replace an earlier one of the same kind and file name; empty if it may.

    An expected error is itself uncertain, so the earlier one is better only if the new error is above the upper end of
    the old one's interval.

    Args:
        predictor: Predictor to write.
        base: Path as for `save_predictor`.

    Raises:
        InputError: The existing files cannot be read, or are a predictor of another kind.
    """
    if not any(file.exists() for file in files_of(base)):
        return ""
    try:
        existing = load_predictor(base)
    except InputError as error:
        raise InputError(f"{error}; or name another output file, or replace it", parameter="replace") from error
    if _identity(existing) != _identity(predictor):
        cuts = "".join(f", of {kind.key}" for kind in existing.features.cuts)
        raise InputError(
            f"{base} is of {existing.template.describe()} on {existing.device.device}, of lengths "
            f"{', '.join(map(str, existing.lengths))}{cuts}; "
            "name another output file, or replace it",
            parameter="replace",
        )
    old, new = existing.error_card, predictor.error_card
    most = old.mape if old.mape_upper is None else old.mape_upper
    errors = f"of {old.mape:.2f} % of latency, at most {most:.2f} %, and the new one {new.mape:.2f} %"
    return "" if new.mape <= most else f"has an expected error {errors}"


def _identity(predictor: FittedPredictor) -> tuple[object, ...]:
    """Identity of a predictor; another version of the runtime, or more rows, make a newer one of the same identity."""
    template, device = predictor.template, predictor.device
    names = ("phase", "mode", "graph", "batch", "quantisation", "dtype")
    workload = (template.shape.sizes, *(getattr(template, name) for name in names))
    composed = predictor.error_card.composed > 0
    cuts = predictor.features.cuts
    return (*workload, predictor.quantity, predictor.lengths, device.device, device.hardware, composed, cuts)
