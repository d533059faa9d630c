"""Nested cross-validation of the fits and of the choice between them, on held-out adapters."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adaptare.predictor.fitting.candidates import candidate_interval
from adaptare.predictor.fitting.choice import choose_candidate
from adaptare.predictor.fitting.training_rows import ADAPTER
from adaptare.predictor.intervals.conformal import conformal_half_width
from adaptare.predictor.regressor import Regressor, unfitted

FOLDS = 10
# Inner folds, over the rows outside one outer fold, for the choice evaluated there; with as many as FOLDS a fit would
# take four times as long as without, with these twice as long.
INNER_FOLDS = 4


@dataclass(frozen=True, eq=False)
class LeftOut:
    """Predictions of rows held out from the fit, the choice between fits and the interval.

    Args:
        ratios: Predicted ratios. Shape (n,).
        half_widths: Half-widths of their intervals. Shape (n,).
    """

    ratios: NDArray[np.float64]
    half_widths: NDArray[np.float64]


def cross_validate(
    candidates: Mapping[str, Regressor],
    X: NDArray[np.float64],
    ratios: NDArray[np.float64],
    groups: NDArray[np.str_],
    *,
    level: float,
) -> tuple[Mapping[str, NDArray[np.float64]], LeftOut]:
    """Ratios that each candidate predicts for held-out rows, and the predictions of the whole procedure.

    The error of the best of several candidates is biased low on the rows it was chosen by. The procedure therefore
    repeats the choice without each fold, by cross-validation inside the other rows, and its errors are those of a
    predictor that was fitted and chosen without the row. The folds keep adapters whole. Where the adapters outside a
    fold are too few for the level, the interval is that of their largest residual.

    References:
        Varma, Simon 2006, "Bias in error estimation when using cross-validation for model selection".
    """
    folds = _folds(groups, FOLDS)
    predicted = {name: np.empty(len(ratios)) for name in candidates}
    procedure = LeftOut(np.empty(len(ratios)), np.empty(len(ratios)))
    for fold in np.unique(folds):
        seen, unseen = folds != fold, folds == fold
        fitted = {name: unfitted(candidate).fit(X[seen], ratios[seen]) for name, candidate in candidates.items()}
        for name, regressor in fitted.items():
            predicted[name][unseen] = regressor.predict(X[unseen])
        chosen = next(iter(candidates))
        if len(candidates) > 1:
            inner = left_out_ratios(candidates, X[seen], ratios[seen], groups[seen])
            chosen = choose_candidate(inner, ratios[seen], groups[seen])
        residuals, spread = candidate_interval(fitted[chosen], X[seen], ratios[seen], groups[seen])
        reached = min(level, len(residuals) / (len(residuals) + 1))
        half_width = spread.widened(conformal_half_width(residuals, level=reached), level)
        procedure.ratios[unseen] = predicted[chosen][unseen]
        procedure.half_widths[unseen] = half_width * predicted[chosen][unseen]
    return predicted, procedure


def left_out_ratios(
    candidates: Mapping[str, Regressor],
    X: NDArray[np.float64],
    ratios: NDArray[np.float64],
    groups: NDArray[np.str_],
    *,
    folds: int = INNER_FOLDS,
) -> dict[str, NDArray[np.float64]]:
    """Ratios that each regressor predicts for rows held out from its fit. Shape (n,) each."""
    members, predicted = _folds(groups, folds), {name: np.empty(len(ratios)) for name in candidates}
    for fold in np.unique(members):
        seen, unseen = members != fold, members == fold
        for name, candidate in candidates.items():
            predicted[name][unseen] = unfitted(candidate).fit(X[seen], ratios[seen]).predict(X[unseen])
    return predicted


def _folds(groups: NDArray[np.str_], folds: int) -> NDArray[np.int64]:
    """Fold of each row; the same adapters give the same folds."""
    labels, members = np.unique(groups[:, ADAPTER], return_inverse=True)
    shuffled = np.random.default_rng(0).permutation(len(labels))
    return shuffled[members] % min(folds, len(labels))
