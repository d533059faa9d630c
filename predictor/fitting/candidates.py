"""Candidate regressors for a device: the shrunken fit, simpler fits and more flexible ones."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from adaptare.predictor.estimators.curved import Curved
from adaptare.predictor.estimators.nonnegative import NonNegativeLinear
from adaptare.predictor.estimators.shrunken import ShrunkenLinear
from adaptare.predictor.features import FLOPS, SITES
from adaptare.predictor.fitting.training_rows import ADAPTER, RUN, SESSION, WORKLOAD
from adaptare.predictor.intervals.session_spread import SessionSpread, session_spread
from adaptare.predictor.regressor import Regressor, left_out_residuals

SHRUNKEN = "shrunken"
TRANSFERRED = "transferred"
ONLY_PRIOR = (float("inf"),)
SIMPLER = ("sites-affine", "FLOPs-affine")


def candidates(prior: tuple[int, ...] = (SITES, FLOPS)) -> dict[str, Regressor]:
    """Candidate fits by name.

    Args:
        prior: Columns that explain most of latency; see `FeatureSet.prior`.
    """
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


def candidate_interval(
    regressor: Regressor, X: NDArray[np.float64], ratios: NDArray[np.float64], groups: NDArray[np.str_]
) -> tuple[NDArray[np.float64], SessionSpread]:
    """Held-out error of each workload, relative to its prediction, and the spread of a new session.

    Rows of one adapter are left out together, at all lengths, and of one workload the last counts, so that repeated
    measurement narrows no interval. So are rows of the same run, which share the random effects of its openings (fresh
    loads of all programs) and of their reference; a new row has different ones. A run is not left out where it is all
    of its session, whose shift the spread covers, nor where fewer than half of the adapters would remain, too few for
    an estimate. Shape of the errors: (n_workloads,).

    Args:
        regressor: Regressor fitted to the rows.
        X: Features. Shape (n, n_features).
        ratios: Shape (n,).
        groups: See `TrainingRows`. Shape (n, 4).
    """
    shared = groups[:, None, :] == groups
    same_adapter, same_run = shared[:, :, ADAPTER], shared[:, :, RUN]

    def relative(apart: NDArray[np.bool_]) -> NDArray[np.float64]:
        residuals = left_out_residuals(regressor, X, ratios, apart)
        return residuals / np.maximum(np.abs(ratios - residuals), np.finfo(np.float64).tiny)

    spread = session_spread(relative(same_adapter), groups[:, SESSION], groups[:, ADAPTER])
    errors = relative(same_adapter | (same_run & _spared(groups)[:, None]))
    return errors[_last_rows(groups)], spread


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
