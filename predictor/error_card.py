"""What a predictor is off on rows it has not seen, beside what others are off."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

from adaptare.predictor.candidates import LeftOut, of_workloads


@dataclass(frozen=True)
class ErrorCard:
    """Errors by cross-validation; all rows of one workload are left out together.

    One overhead point is a hundredth of the reference's latency. Rows of one session do not show what a new session
    changes, rows of one opening not what another opening does: read the errors beside both counts. With several, the
    interval allows for what differs between them, which the errors of rows among others of theirs do not show.

    Args:
        rows: Measurements learned from.
        sessions: Sessions they come from.
        openings: Openings of programs they come from.
        mae_overhead_points: Mean absolute error of the predicted ratio, overhead points.
        mape: Mean absolute error in per cent of the measured latency.
        kendall_tau: Rank correlation of predicted and measured latency; nan where either never differs.
        coverage: Share of the rows inside the interval that the others gave.
        half_width_points: Median half width of that interval, overhead points.
        baselines: Mean absolute error of what was not chosen, and of a nearest neighbour and a random forest, overhead
            points.
        composed: How many of the rows were composed from stubs, not measured whole.
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
    composed: int = 0


def make_error_card(
    left_out: Mapping[str, LeftOut],
    ratios: NDArray[np.float64],
    groups: NDArray[np.str_],
    *,
    others: Mapping[str, NDArray[np.float64]],
    chosen: str,
    sessions: int,
    openings: int,
    composed: int,
) -> ErrorCard:
    """The card of the chosen candidate, from the predictions of all of them and the errors of others.

    An adapter that was measured several times counts once.
    """
    own = left_out[chosen]
    errors = np.abs(own.ratios - ratios)

    def points(errors: NDArray[np.float64]) -> float:
        return float(100 * of_workloads(errors, groups).mean())

    return ErrorCard(
        rows=len(ratios),
        sessions=sessions,
        openings=openings,
        mae_overhead_points=points(errors),
        mape=points(errors / ratios),
        kendall_tau=float(kendalltau(own.ratios, ratios).statistic),
        coverage=points((errors <= own.half_widths).astype(np.float64)) / 100,
        half_width_points=float(100 * np.median(own.half_widths)),
        baselines={
            **{name: points(np.abs(found.ratios - ratios)) for name, found in left_out.items() if name != chosen},
            **{name: points(errors) for name, errors in others.items()},
        },
        composed=composed,
    )
