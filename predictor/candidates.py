"""The fits that compete for a device: the shrunken one, simpler ones that are as good, and those clearly better."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.ensemble import RandomForestRegressor
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from adaptare.predictor.conformal import conformal_half_width
from adaptare.predictor.curved import Curved
from adaptare.predictor.features import ADAPTER_FLOPS, SITES
from adaptare.predictor.nonnegative import NonNegativeLinear
from adaptare.predictor.shrunken import ShrunkenLinear
from adaptare.predictor.training_rows import WORKLOAD
from adaptare.predictor.transferred import Transferred

FOLDS = 10
SHRUNKEN = "shrunken"
TRANSFERRED = "transferred"
ONLY_PRIOR = (float("inf"),)
SIMPLER = ("sites-affine", "FLOPs-affine")
# Standard errors of the difference by which another fit must be better than the shrunken one to ship.
CLEARLY_BETTER = 2.0
# The same by which the shrunken one must be better than a line, and a line than a constant; a larger number of errors
# would keep few noisy rows from ever showing that there is more than a line. A strength is chosen by the same.
WORTH_ITS_COLUMNS = 0.5
# A transferred fit is not simpler, but has seen more.
TRANSFER_BETTER = 1.0
Candidate = ShrunkenLinear | NonNegativeLinear | Curved | Transferred
CANDIDATES: Mapping[str, Candidate] = {
    SHRUNKEN: ShrunkenLinear(prior_columns=(SITES, ADAPTER_FLOPS)),
    "non-negative": NonNegativeLinear(),
    "curved": Curved(prior_columns=(SITES, ADAPTER_FLOPS)),
    "constant": ShrunkenLinear(strengths=ONLY_PRIOR),
    "sites-affine": ShrunkenLinear(prior_columns=(SITES,), strengths=ONLY_PRIOR),
    # Within one predictor parameters are proportional to FLOPs, so this is the fit in parameters too.
    "FLOPs-affine": ShrunkenLinear(prior_columns=(ADAPTER_FLOPS,), strengths=ONLY_PRIOR),
}
BASELINES: Mapping[str, Any] = {
    "nearest neighbour": make_pipeline(StandardScaler(), KNeighborsRegressor(1)),
    "random forest": RandomForestRegressor(20, random_state=0),
}


@dataclass(frozen=True, eq=False)
class LeftOut:
    """What one candidate says of every row when it has not seen it.

    Args:
        ratios: Predicted. Shape (n,).
        half_widths: Of the interval around them. Shape (n,).
    """

    ratios: NDArray[np.float64]
    half_widths: NDArray[np.float64]


def fit_candidate(
    candidate: Candidate, X: NDArray[np.float64], ratios: NDArray[np.float64], groups: NDArray[np.str_]
) -> tuple[Candidate, NDArray[np.float64]]:
    """The fitted estimator and what each workload is off when it was left out, relative to its prediction.

    Rows of one workload are left out together, and the last of them counts, so that measuring often makes no interval
    narrower. So are rows of one session, and of the same rounds, which share the luck of an opening and of its
    reference: a new row has its own. A session or rounds are not left out where the rest would know fewer than half of
    the workloads, which would be too few to tell. Shape of what they are off: (n_workloads,).

    Args:
        candidate: Not fitted.
        X: Shape (n, n_features).
        ratios: Shape (n,).
        groups: Workload, rounds and session of each row. Shape (n, 3).
    """
    estimator: Candidate = clone(candidate).fit(X, ratios)
    shared = groups[:, None, :] == groups
    shared &= _spared(groups)[:, None, :]
    residuals = estimator.left_out_residuals(shared.any(axis=2))
    relative = residuals / np.maximum(np.abs(ratios - residuals), np.finfo(np.float64).tiny)
    return estimator, relative[_last_of_each(groups)]


def cross_validate(
    candidates: Mapping[str, Candidate],
    X: NDArray[np.float64],
    ratios: NDArray[np.float64],
    groups: NDArray[np.str_],
    *,
    level: float,
) -> Mapping[str, LeftOut]:
    """Every candidate on rows that neither its fit nor its interval has seen; the folds keep workloads whole.

    Where the workloads outside a fold are too few for the level, the interval is that of their largest residual.
    """
    folds = _folds(groups)
    found = {name: LeftOut(np.empty(len(ratios)), np.empty(len(ratios))) for name in candidates}
    for fold in np.unique(folds):
        seen, unseen = folds != fold, folds == fold
        workloads = len(np.unique(groups[seen, WORKLOAD]))
        reached = min(level, workloads / (workloads + 1))
        for name, left_out in found.items():
            estimator, residuals = fit_candidate(candidates[name], X[seen], ratios[seen], groups[seen])
            left_out.ratios[unseen] = estimator.predict(X[unseen])
            left_out.half_widths[unseen] = conformal_half_width(residuals, level=reached) * left_out.ratios[unseen]
    return found


def baseline_errors(
    X: NDArray[np.float64], ratios: NDArray[np.float64], groups: NDArray[np.str_]
) -> Mapping[str, NDArray[np.float64]]:
    """What others are off in the same folds, which are shown for comparison and never ship. Shape (n,) each."""
    folds, errors = _folds(groups), {name: np.empty(len(ratios)) for name in BASELINES}
    for fold in np.unique(folds):
        seen, unseen = folds != fold, folds == fold
        for name, regressor in BASELINES.items():
            predicted = clone(regressor).fit(X[seen], ratios[seen]).predict(X[unseen])
            errors[name][unseen] = np.abs(predicted - ratios[unseen])
    return errors


def choose_candidate(left_out: Mapping[str, LeftOut], ratios: NDArray[np.float64], groups: NDArray[np.str_]) -> str:
    """The shrunken fit, unless a line in sites or FLOPs is as good or any other fit is clearly better.

    A constant ranks nothing, so it never ships for being as good. A transferred fit, where it is better than the
    shrunken one, stands in for it, and then a line must be clearly better too. Each workload counts once.
    """
    errors = {name: of_workloads(np.abs(found.ratios - ratios), groups) for name, found in left_out.items()}
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


def reason_for(
    chosen: str, left_out: Mapping[str, LeftOut], ratios: NDArray[np.float64], groups: NDArray[np.str_]
) -> str:
    """Why a candidate ships, for people."""
    if chosen == SHRUNKEN:
        return (
            "no line in sites or FLOPs is as good, nor another fit better by two standard errors, on adapters left out"
        )
    errors = {name: of_workloads(np.abs(left_out[name].ratios - ratios), groups) for name in (SHRUNKEN, chosen)}
    gains = errors[SHRUNKEN] - errors[chosen]
    error = gains.std(ddof=1) / np.sqrt(len(gains))
    points = f"{100 * abs(gains.mean()):.2f} ± {100 * error:.2f} points {'less' if gains.mean() >= 0 else 'more'}"
    as_good = "simpler, and as good: " if chosen in SIMPLER and not _clearly(gains, CLEARLY_BETTER) else ""
    return f"{as_good}off by {points} than the shrunken fit on adapters left out"


def _spared(groups: NDArray[np.str_]) -> NDArray[np.bool_]:
    """Whether the rest knows enough without what each row shares, by column of the groups. Shape (n, 3)."""
    found = np.ones(groups.shape, dtype=np.bool_)
    workloads = groups[:, WORKLOAD]
    enough = len(np.unique(workloads)) / 2
    for column in range(1, groups.shape[1]):
        for label in np.unique(groups[:, column]):
            own = groups[:, column] == label
            found[own, column] = len(np.unique(workloads[~own])) >= enough
    return found


def _last_of_each(groups: NDArray[np.str_]) -> NDArray[np.int64]:
    """Index of the last row of each workload, ascending."""
    _, from_end = np.unique(groups[::-1, WORKLOAD], return_index=True)
    return np.sort(len(groups) - 1 - from_end)


def of_workloads(errors: NDArray[np.float64], groups: NDArray[np.str_]) -> NDArray[np.float64]:
    """Mean of the rows of each. Shape (n,) -> (n_workloads,)."""
    _, members = np.unique(groups[:, WORKLOAD], return_inverse=True)
    found: NDArray[np.float64] = np.bincount(members, weights=errors) / np.bincount(members)
    return found


def _clearly(gains: NDArray[np.float64], standard_errors: float) -> bool:
    return bool(gains.mean() > standard_errors * gains.std(ddof=1) / np.sqrt(len(gains)))


def _folds(groups: NDArray[np.str_]) -> NDArray[np.int64]:
    """A fold for each row; the same workloads give the same folds."""
    labels, members = np.unique(groups[:, WORKLOAD], return_inverse=True)
    shuffled = np.random.default_rng(0).permutation(len(labels))
    return shuffled[members] % min(FOLDS, len(labels))
