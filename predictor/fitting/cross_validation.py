"""Nested cross-validation of the fits and of the choice between them, and the errors of a predictor that it gives."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from adaptare.predictor.fitting.candidates import candidate_interval, change_of, choose_candidate, of_adapters
from adaptare.predictor.fitting.training_rows import ADAPTER, Rows, TrainingRows
from adaptare.predictor.intervals import conformal_half_width
from adaptare.predictor.regressor import Fit, unfitted

FOLDS = 10
# Inner folds, over the rows outside one outer fold, for the choice evaluated there; with as many as FOLDS a fit would
# take four times as long as without, with these twice as long.
INNER_FOLDS = 4


@dataclass(frozen=True, eq=False)
class LeftOut:
    """Ratios of rows held out from fit, choice and interval, with half-widths of their logarithms. Shape (n,) each."""

    ratios: NDArray[np.float64]
    half_widths: NDArray[np.float64]


def cross_validate(
    candidates: Mapping[str, Fit],
    rows: Rows,
    *,
    level: float,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[Mapping[str, NDArray[np.float64]], LeftOut]:
    """Ratios that each candidate predicts for held-out rows, and the predictions of the whole procedure.

    The error of the best of several candidates is biased low on the rows it was chosen by. The procedure therefore
    repeats the choice without each fold, by cross-validation inside the other rows, and its errors are those of a
    predictor that was fitted and chosen without the row. The folds keep adapters whole. Where the adapters outside a
    fold are too few for the level, the interval is that of their largest residual.

    References:
        Varma, Simon 2006, "Bias in error estimation when using cross-validation for model selection".
    """
    folds = _folds(rows.groups, FOLDS)
    predicted = {name: np.empty(len(folds)) for name in candidates}
    procedure = LeftOut(np.empty(len(folds)), np.empty(len(folds)))
    for fold in np.unique(folds):
        progress(fold / (folds.max() + 1))
        seen, unseen = rows.only(folds != fold), folds == fold
        fitted = {name: unfitted(candidate).fit(seen.X, seen.ratios) for name, candidate in candidates.items()}
        for name, regressor in fitted.items():
            predicted[name][unseen] = regressor.predict(rows.X[unseen])
        chosen = next(iter(candidates))
        if len(candidates) > 1:
            chosen = choose_candidate(left_out_ratios(candidates, seen), seen)
        residuals, spread = candidate_interval(fitted[chosen], seen)
        reached = min(level, len(residuals) / (len(residuals) + 1))
        half_width = float(spread.widened(conformal_half_width(residuals, level=reached), level))
        procedure.ratios[unseen] = predicted[chosen][unseen]
        change = change_of(fitted[chosen], rows.X[unseen])
        procedure.half_widths[unseen] = half_width * change
    return predicted, procedure


def left_out_ratios(
    candidates: Mapping[str, Fit], rows: Rows, *, folds: int = INNER_FOLDS
) -> dict[str, NDArray[np.float64]]:
    """Ratios that each regressor predicts for rows held out from its fit. Shape (n,) each."""
    members, predicted = _folds(rows.groups, folds), {name: np.empty(len(rows.X)) for name in candidates}
    for fold in np.unique(members):
        seen, unseen = rows.only(members != fold), members == fold
        for name, candidate in candidates.items():
            predicted[name][unseen] = unfitted(candidate).fit(seen.X, seen.ratios).predict(rows.X[unseen])
    return predicted


def _folds(groups: NDArray[np.str_], folds: int) -> NDArray[np.int64]:
    """Fold of each row; the same adapters give the same folds."""
    labels, members = np.unique(groups[:, ADAPTER], return_inverse=True)
    shuffled = np.random.default_rng(0).permutation(len(labels))
    return shuffled[members] % min(folds, len(labels))


# Confidence of the upper bound of the error, since the error on few adapters may be low by chance.
CONFIDENCE = 0.95


@dataclass(frozen=True)
class ErrorCard:
    """Errors of the whole procedure by nested cross-validation; all rows of one adapter are left out together.

    One overhead point is a hundredth of the reference's latency. The choice between fits is repeated without each fold.
    Rows of one session do not show the shift of a new session, nor rows of one opening (one fresh load of all programs)
    that of another: read the errors with both counts. The interval allows for a new session, so its coverage of rows
    of known sessions is higher. The interval is of the latency itself, so coverage allows for the measurement error of
    a row where that is known.

    Args:
        rows: Number of training measurements.
        sessions: Number of their sessions.
        openings: Number of their openings.
        mae_overhead_points: Mean absolute error of the predicted ratio, overhead points.
        mape: Mean absolute error in per cent of the measured latency.
        kendall_tau: Rank correlation of predicted and measured latency; `None` where either never differs.
        coverage: Share of the rows inside the interval computed from the others, within their measurement error.
        half_width_points: Median half width of that interval, overhead points.
        baselines: Mean absolute error of the other candidates, a nearest neighbour and a random forest, overhead
            points.
        composed: Number of rows composed from stubs (models with few layers), not measured whole.
        mape_upper: Upper confidence bound of `mape`, one-sided with probability 0.95; `None` in older files.
    """

    rows: int
    sessions: int
    openings: int
    mae_overhead_points: float
    mape: float
    kendall_tau: float | None
    coverage: float
    half_width_points: float
    baselines: Mapping[str, float]
    composed: int = 0
    mape_upper: float | None = None


def make_error_card(
    left_out: LeftOut, training: TrainingRows, others: Mapping[str, NDArray[np.float64]], *, level: float
) -> ErrorCard:
    """Error card of predictions of held-out rows, with the errors of other regressors on the same rows.

    An adapter that was measured several times counts once.
    """
    from scipy.stats import kendalltau  # takes a second to import, and few commands fit anything

    rows = training.rows
    errors = np.abs(left_out.ratios - rows.ratios)
    relative = 100 * of_adapters(errors / rows.ratios, rows.groups)
    allowed = stdtrit(len(relative) - 1, CONFIDENCE) * relative.std(ddof=1) / math.sqrt(len(relative))
    distances = np.abs(np.log(rows.ratios / left_out.ratios))
    measurement = ndtri((1 + level) / 2) * np.sqrt(rows.noise)
    tau = float(kendalltau(left_out.ratios, rows.ratios).statistic)

    def points(errors: NDArray[np.float64]) -> float:
        return float(100 * of_adapters(errors, rows.groups).mean())

    return ErrorCard(
        rows=len(rows.ratios),
        sessions=training.sessions,
        openings=training.openings,
        mae_overhead_points=points(errors),
        mape=float(relative.mean()),
        kendall_tau=None if math.isnan(tau) else tau,
        coverage=points((distances <= np.hypot(left_out.half_widths, measurement)).astype(np.float64)) / 100,
        half_width_points=float(100 * np.median(np.expm1(left_out.half_widths) * left_out.ratios)),
        baselines={name: points(errors) for name, errors in others.items()},
        composed=training.composed,
        mape_upper=float(relative.mean() + allowed),
    )
