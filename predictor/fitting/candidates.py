"""Candidate regressors for a device, and the choice: the shrunken fit, one as good and simpler, or a better one."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from adaptare.predictor.estimators.anchored import Anchored
from adaptare.predictor.estimators.curved import Curved
from adaptare.predictor.estimators.nonnegative import NonNegativeLinear
from adaptare.predictor.estimators.shrunken import ShrunkenLinear
from adaptare.predictor.features import FLOPS, SITES
from adaptare.predictor.fitting.training_rows import ADAPTER, RUN, SESSION, WORKLOAD, Rows
from adaptare.predictor.intervals import SessionSpread, session_spread, without_noise
from adaptare.predictor.regressor import Fit, Regressor, left_out_residuals

SHRUNKEN = "shrunken"
TRANSFERRED = "transferred"
# Predictions below this share of the measured ratio, even negative ones, count as this share.
SMALLEST_RATIO = 1e-3
ONLY_PRIOR = (float("inf"),)
SIMPLER = ("sites-affine", "FLOPs-affine")


def candidates(prior: tuple[int, ...] = (SITES, FLOPS)) -> dict[str, Regressor]:
    """Candidate fits by name; `prior` columns explain most of latency, see `FeatureSet.prior`."""
    return {
        SHRUNKEN: ShrunkenLinear(prior_columns=prior),
        "non-negative": NonNegativeLinear(),
        "curved": Curved(prior_columns=prior),
        "constant": ShrunkenLinear(strengths=ONLY_PRIOR),
        "sites-affine": ShrunkenLinear(prior_columns=(SITES,), strengths=ONLY_PRIOR),
        # Within one predictor, parameters are proportional to FLOPs, so this is the fit in parameters too.
        "FLOPs-affine": ShrunkenLinear(prior_columns=(FLOPS,), strengths=ONLY_PRIOR),
    }


BASELINES: Mapping[str, Any] = {
    "nearest neighbour": make_pipeline(StandardScaler(), KNeighborsRegressor(1)),
    "random forest": RandomForestRegressor(20, random_state=0),
}


def candidate_interval(regressor: Fit, rows: Rows) -> tuple[NDArray[np.float64], SessionSpread]:
    """Held-out log error of each workload over its scale, see `without_noise`, and the spread of a new session over it.

    Rows of one adapter are left out together, at all lengths, and of one workload the last counts, so that repeated
    measurement narrows no interval. So are rows of the same run, which share the random effects of its openings (fresh
    loads of all programs) and of their reference; a new row has different ones. A run is not left out where it is all
    of its session, whose shift the spread covers, nor where fewer than half of the adapters would remain, too few for
    an estimate. Shape of the errors: (n_workloads,).
    """
    ratios, groups, change = rows.ratios, rows.groups, change_of(regressor, rows.X)
    shared = groups[:, None, :] == groups
    same_adapter, same_run = shared[:, :, ADAPTER], shared[:, :, RUN]

    def relative(apart: NDArray[np.bool_]) -> NDArray[np.float64]:
        residuals = left_out_residuals(regressor, rows.X, ratios, apart)
        logs: NDArray[np.float64] = np.log(ratios / np.maximum(ratios - residuals, SMALLEST_RATIO * ratios))
        return logs

    shifts = relative(same_adapter) / (change.mean() or 1.0)
    spread = session_spread(shifts, groups[:, SESSION], groups[:, ADAPTER])
    errors, last = relative(same_adapter | (same_run & _spared(groups)[:, None])), _last_rows(groups)
    return without_noise(errors[last], change[last], rows.noise[last]), spread


def change_of(regressor: Fit, X: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale of the error of each row; see `Anchored.change`. Shape (n,)."""
    return regressor.change(X) if isinstance(regressor, Anchored) else np.ones(len(X))


def _spared(groups: NDArray[np.str_]) -> NDArray[np.bool_]:
    """Rows whose run can be left out: their session and enough adapters remain. Shape (n,)."""
    transferable = np.zeros(len(groups), dtype=np.bool_)
    enough = len(np.unique(groups[:, ADAPTER])) / 2
    for label in np.unique(groups[:, RUN]):
        own = groups[:, RUN] == label
        session_remains = np.isin(groups[own, SESSION], groups[~own, SESSION]).all()
        transferable[own] = session_remains and len(np.unique(groups[~own, ADAPTER])) >= enough
    return transferable


def _last_rows(groups: NDArray[np.str_]) -> NDArray[np.int64]:
    """Index of the last row of each workload, ascending."""
    _, from_end = np.unique(groups[::-1, WORKLOAD], return_index=True)
    return np.sort(len(groups) - 1 - from_end)


def of_adapters(errors: NDArray[np.float64], groups: NDArray[np.str_]) -> NDArray[np.float64]:
    """Mean error of each adapter. Shape (n,) -> (n_adapters,)."""
    _, members = np.unique(groups[:, ADAPTER], return_inverse=True)
    means: NDArray[np.float64] = np.bincount(members, weights=errors) / np.bincount(members)
    return means


# Standard errors of the difference by which another fit must be better than the shrunken one to be chosen.
CLEARLY_BETTER = 2.0
# Likewise for the shrunken fit over a line, and for a line over a constant; with a larger margin, few noisy rows could
# never show more than a line. The shrinkage strength uses the same margin.
WORTH_ITS_COLUMNS = 0.5
# Smaller differences of errors are 0.00 points of overhead in tables, and no reason for more columns.
SMALLEST_GAIN = 5e-5
# A transferred fit is not simpler, but uses more data.
TRANSFER_BETTER = 1.0


def choose_candidate(left_out: Mapping[str, NDArray[np.float64]], rows: Rows) -> str:
    """Name of the shrunken fit, unless a line in sites or FLOPs is as good or any other fit is clearly better.

    A constant cannot rank, so being as good is not enough for it. A transferred fit that is better than the shrunken
    one replaces it, and then a line must be clearly better too. Each adapter counts once. A single fit is the choice.
    """
    if len(left_out) == 1:
        return next(iter(left_out))
    errors = {name: _errors(predicted, rows) for name, predicted in left_out.items()}
    usual = SHRUNKEN
    if TRANSFERRED in errors and _clearly(errors[SHRUNKEN] - errors[TRANSFERRED], TRANSFER_BETTER):
        usual = TRANSFERRED
    better = [name for name in errors if _clearly(errors[usual] - errors[name], CLEARLY_BETTER)]
    as_good = [
        name
        for name in SIMPLER
        if usual == SHRUNKEN
        and _clearly(errors["constant"] - errors[name], WORTH_ITS_COLUMNS)
        and not _clearly(errors[name] - errors[SHRUNKEN], WORTH_ITS_COLUMNS)
    ]
    return min([*better, *as_good] or [usual], key=lambda name: float(errors[name].mean()))


def reason_for(chosen: str, left_out: Mapping[str, NDArray[np.float64]], rows: Rows) -> str:
    """Readable reason for the choice of a candidate."""
    if len(left_out) == 1:
        return "the requested regressor"
    if chosen == SHRUNKEN:
        return (
            "no line in sites or FLOPs is as good, nor another fit better by two standard errors, on held-out adapters"
        )
    gains = _errors(left_out[SHRUNKEN], rows) - _errors(left_out[chosen], rows)
    error = gains.std(ddof=1) / np.sqrt(len(gains))
    difference = f"{100 * abs(gains.mean()):.2f} ± {100 * error:.2f} points of overhead"
    as_good = "simpler, and as good: " if chosen in SIMPLER and not _clearly(gains, CLEARLY_BETTER) else ""
    side = "below" if gains.mean() >= 0 else "above"
    return f"{as_good}its error on held-out adapters is {difference} {side} that of the shrunken fit"


def _errors(predicted: NDArray[np.float64], rows: Rows) -> NDArray[np.float64]:
    return of_adapters(np.abs(predicted - rows.ratios), rows.groups)


def _clearly(gains: NDArray[np.float64], standard_errors: float) -> bool:
    return bool(gains.mean() > max(standard_errors * gains.std(ddof=1) / np.sqrt(len(gains)), SMALLEST_GAIN))
