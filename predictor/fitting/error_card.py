"""Errors of a predictor on held-out rows, compared with those of other regressors."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from adaptare.predictor.fitting.candidates import of_adapters
from adaptare.predictor.fitting.cross_validation import LeftOut

# Confidence of the upper bound of the error, since the error on few adapters may be low by chance.
CONFIDENCE = 0.95


@dataclass(frozen=True)
class ErrorCard:
    """Errors of the whole procedure by nested cross-validation; all rows of one adapter are left out together.

    One overhead point is a hundredth of the reference's latency. The choice between fits is repeated without each fold.
    Rows of one session do not show the shift of a new session, nor rows of one opening (one fresh load of all programs)
    that of another: read the errors with both counts. The interval allows for a new session, so its coverage of rows
    of known sessions is higher.

    Args:
        rows: Number of training measurements.
        sessions: Number of their sessions.
        openings: Number of their openings.
        mae_overhead_points: Mean absolute error of the predicted ratio, overhead points.
        mape: Mean absolute error in per cent of the measured latency.
        kendall_tau: Rank correlation of predicted and measured latency; `None` where either never differs.
        coverage: Share of the rows inside the interval computed from the others.
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
    left_out: LeftOut,
    ratios: NDArray[np.float64],
    groups: NDArray[np.str_],
    *,
    others: Mapping[str, NDArray[np.float64]],
    sessions: int,
    openings: int,
    composed: int,
) -> ErrorCard:
    """Error card of predictions of held-out rows, with the errors of other regressors on the same rows.

    An adapter that was measured several times counts once.
    """
    from scipy.stats import kendalltau  # takes a second to import, and few commands fit anything

    errors = np.abs(left_out.ratios - ratios)
    relative = 100 * of_adapters(errors / ratios, groups)
    allowed = stdtrit(len(relative) - 1, CONFIDENCE) * relative.std(ddof=1) / math.sqrt(len(relative))
    tau = float(kendalltau(left_out.ratios, ratios).statistic)

    def points(errors: NDArray[np.float64]) -> float:
        return float(100 * of_adapters(errors, groups).mean())

    return ErrorCard(
        rows=len(ratios),
        sessions=sessions,
        openings=openings,
        mae_overhead_points=points(errors),
        mape=float(relative.mean()),
        kendall_tau=None if math.isnan(tau) else tau,
        coverage=points((errors <= left_out.half_widths).astype(np.float64)) / 100,
        half_width_points=float(100 * np.median(left_out.half_widths)),
        baselines={name: points(errors) for name, errors in others.items()},
        composed=composed,
        mape_upper=float(relative.mean() + allowed),
    )
