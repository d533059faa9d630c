"""The fits that compete for a device: the shrunken one and those it has to beat."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from adaptare.predictor.conformal import conformal_half_width
from adaptare.predictor.features import ADAPTER_FLOPS, SITES
from adaptare.predictor.shrunken import ShrunkenLinear

FOLDS = 10
SHRUNKEN = "shrunken"
ONLY_PRIOR = (float("inf"),)
# Standard errors of the difference by which a simpler fit must be better to ship.
CLEARLY_BETTER = 2.0
CANDIDATES: Mapping[str, ShrunkenLinear] = {
    SHRUNKEN: ShrunkenLinear(prior_columns=(SITES, ADAPTER_FLOPS)),
    "constant": ShrunkenLinear(strengths=ONLY_PRIOR),
    "sites-affine": ShrunkenLinear(prior_columns=(SITES,), strengths=ONLY_PRIOR),
    "FLOPs-affine": ShrunkenLinear(prior_columns=(ADAPTER_FLOPS,), strengths=ONLY_PRIOR),
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
    name: str, X: NDArray[np.float64], ratios: NDArray[np.float64], groups: NDArray[np.str_], *, level: float
) -> tuple[ShrunkenLinear, float]:
    """The fitted estimator and the half width of its interval, relative to the predicted ratio.

    Rows of one group are left out together, so that measuring a workload twice makes no interval narrower.
    """
    estimator: ShrunkenLinear = clone(CANDIDATES[name]).fit(X, ratios)
    residuals = estimator.left_out_residuals(groups)
    relative = residuals / np.maximum(np.abs(ratios - residuals), np.finfo(np.float64).tiny)
    return estimator, conformal_half_width(relative, level=level)


def cross_validate(
    X: NDArray[np.float64], ratios: NDArray[np.float64], groups: NDArray[np.str_], *, level: float
) -> Mapping[str, LeftOut]:
    """Every candidate on rows that neither its fit nor its interval has seen; the folds keep groups whole.

    Where the rows outside a fold are too few for the level, the interval is that of their largest residual.
    """
    folds = _folds(groups)
    found = {name: LeftOut(np.empty(len(ratios)), np.empty(len(ratios))) for name in CANDIDATES}
    for fold in np.unique(folds):
        seen, unseen = folds != fold, folds == fold
        reached = min(level, seen.sum() / (seen.sum() + 1))
        for name, left_out in found.items():
            estimator, width = fit_candidate(name, X[seen], ratios[seen], groups[seen], level=reached)
            left_out.ratios[unseen] = estimator.predict(X[unseen])
            left_out.half_widths[unseen] = width * left_out.ratios[unseen]
    return found


def choose_candidate(left_out: Mapping[str, LeftOut], ratios: NDArray[np.float64]) -> str:
    """The shrunken fit, unless a simpler one is clearly better."""
    errors = {name: np.abs(found.ratios - ratios) for name, found in left_out.items()}
    best = min(errors, key=lambda name: float(errors[name].mean()))
    gains = errors[SHRUNKEN] - errors[best]
    clearly = CLEARLY_BETTER * gains.std(ddof=1) / np.sqrt(len(gains))
    return best if gains.mean() > clearly else SHRUNKEN


def _folds(groups: NDArray[np.str_]) -> NDArray[np.int64]:
    """A fold for each row; the same groups give the same folds."""
    labels, members = np.unique(groups, return_inverse=True)
    shuffled = np.random.default_rng(0).permutation(len(labels))
    return shuffled[members] % min(FOLDS, len(labels))
