"""What a predictor is off on rows it has not seen, beside what simpler ones are off."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

from adaptare.predictor.candidates import CANDIDATES, Candidate, fit_candidate
from adaptare.predictor.conformal import conformal_half_width

FOLDS = 10


@dataclass(frozen=True)
class ErrorCard:
    """Errors by cross-validation; all rows of one workload are left out together.

    One overhead point is one hundredth of the reference's latency. Rows of one session cannot show how much a new
    session differs, and rows of one opening not what another opening would: look at both counts.

    Args:
        rows: Measurements learned from.
        sessions: Sessions they come from.
        openings: Openings of programs they come from.
        mae_overhead_points: Mean absolute error of the predicted latency in overhead points.
        mape: Mean absolute error in per cent of the measured latency.
        kendall_tau: Rank correlation of predicted and measured latency; nan where all are equal.
        coverage: Share of left-out rows inside the interval that the other rows gave.
        half_width_points: Median half width of the interval in overhead points.
        baselines: Mean absolute error in overhead points of a constant and of affine fits in sites or FLOPs.
    """

    rows: int
    sessions: int
    openings: int
    mae_overhead_points: float
    mape: float
    kendall_tau: float
    coverage: float
    half_width_points: float
    baselines: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class LeftOut:
    """Predictions of rows by fits without them.

    Args:
        ratios: Shape (n,).
        half_widths: Relative. Shape (n,).
    """

    ratios: NDArray[np.float64]
    half_widths: NDArray[np.float64]


def cross_validate(
    X: NDArray[np.float64], y: NDArray[np.float64], groups: NDArray[np.str_], *, level: float
) -> Mapping[str, LeftOut]:
    """Every candidate's predictions of rows that neither its fit nor its interval has seen."""
    folds = _folds(groups)
    return {candidate.name: _left_out(candidate, X, y, groups, folds, level=level) for candidate in CANDIDATES}


def make_error_card(
    left_out: Mapping[str, LeftOut], y: NDArray[np.float64], *, chosen: str, sessions: int, openings: int
) -> ErrorCard:
    """The card of the chosen candidate."""
    predicted = left_out[chosen]
    off = np.abs(predicted.ratios - y)
    half_widths = predicted.half_widths * predicted.ratios
    return ErrorCard(
        rows=len(y),
        sessions=sessions,
        openings=openings,
        mae_overhead_points=float(100 * off.mean()),
        mape=float(100 * (off / y).mean()),
        kendall_tau=float(kendalltau(predicted.ratios, y).statistic),
        coverage=float((off <= half_widths).mean()),
        half_width_points=float(100 * np.median(half_widths)),
        baselines={
            candidate.name: float(100 * np.abs(left_out[candidate.name].ratios - y).mean())
            for candidate in CANDIDATES
            if candidate.simple
        },
    )
