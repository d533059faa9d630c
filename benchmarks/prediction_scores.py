"""Scores of `prediction_on_device.py`: errors of the predictor of a cell, beside those of simpler answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prediction_cells import Cell, Session, planned_of
from prediction_rows import by_rows_of, to_reach
from scipy import stats
from sklearn.base import clone

from adaptare.predictor import FittedPredictor, LatencyPredictor
from adaptare.predictor.fitting.candidates import BASELINES, SIMPLER, candidates
from adaptare.profiler import Measurement, Workload

Array = NDArray[np.float64]
# Error of a prediction over that of one repeated measurement.
GOAL = 1.3


@dataclass(frozen=True)
class Sessions:
    """Both sessions of a cell."""

    name: str
    cell: Cell
    first: Session
    second: Session

    def ratios(self, session: Session, workloads: Sequence[Workload]) -> Array:
        """Measured latency over that of the base."""
        return np.array([session[each.configuration].ratio.middle for each in workloads])


def judge(cell: Sessions, *, by_rows: bool) -> dict[str, Any]:
    """Errors of the predictor of a cell, and of simpler answers, on adapters and a session it never saw.

    Args:
        cell: Its sessions.
        by_rows: Whether to add errors after fewer rows.
    """
    planned = planned_of(cell.cell, cell.first, cell.second)
    training: list[Measurement] = [cell.first[each.configuration] for each in planned.training]
    shipped = LatencyPredictor().fit(training)
    truth, again = (cell.ratios(session, planned.tested) for session in (cell.second, cell.first))
    own = _ratios(shipped, planned.tested)
    level = own * np.median(cell.ratios(cell.second, planned.references) / _ratios(shipped, planned.references))
    own_errors, level_errors, retest = (np.abs(each - truth) for each in (own, level, again))
    errors = {fit: np.abs(each - truth) for fit, each in _others(shipped, training, planned.tested).items()}
    goal = GOAL * _points(retest)
    found = {
        "cell": cell.name,
        "device": cell.cell.device,
        "rows": len(training),
        "tested": len(truth),
        "chosen": shipped.chosen,
        "overhead_points": [100 * float(bound) for bound in (truth.min() - 1, truth.max() - 1)],
        "mae_points": _points(own_errors),
        "mae_points_interval": _interval(own_errors),
        "mae_points_relevelled": _points(level_errors),
        "mae_points_constant": _points(errors["constant"]),
        "retest_points": _points(retest),
        "retest_points_interval": _interval(retest),
        "mae_points_baselines": {fit: _points(each) for fit, each in errors.items()},
        "p_not_better": _not_better(own_errors, {name: errors[name] for name in ("constant", *SIMPLER)}),
        "p_not_better_than_retest": _not_better(own_errors, {"retest": retest})["retest"],
        "tau": _tau(own, truth),
        "retest_tau": _tau(again, truth),
        "constant_passes": _points(errors["constant"]) <= goal,
        "meets": {"mae": _points(own_errors) <= goal, "tau": _tau(own, truth) >= 0.95 * _tau(again, truth)},
    }
    if by_rows:
        table = by_rows_of(planned, cell.first, cell.second)
        found |= {"mae_points_by_rows": table, "to_reach": to_reach(_points(own_errors), table)}
    return found


def _ratios(predictor: FittedPredictor, tested: Sequence[Workload]) -> Array:
    return predictor.predict_configs([each.configuration for each in tested]).mean / predictor.base_value


def _others(
    predictor: FittedPredictor, training: Sequence[Measurement], tested: Sequence[Workload]
) -> dict[str, Array]:
    """Ratios that the fits which were not chosen, and the regressors beside them, predict for the same adapters."""
    features = predictor.features
    X, asked = (
        features.matrix(features.values([each.configuration for each in workloads]))
        for workloads in ([each.workload for each in training], tested)
    )
    y = np.array([each.ratio.middle for each in training])
    return {name: clone(each).fit(X, y).predict(asked) for name, each in {**candidates(), **BASELINES}.items()}


def _not_better(errors: Array, others: Mapping[str, Array]) -> dict[str, float]:
    """One-sided paired t-test: probability of so large a lead over another answer by chance; 1 over itself."""
    p = {name: float(stats.ttest_rel(errors, each, alternative="less").pvalue) for name, each in others.items()}
    return {name: 1.0 if np.isnan(value) else value for name, value in p.items()}


def _points(errors: Array) -> float:
    return 100 * float(errors.mean())


def _interval(errors: Array) -> list[float]:
    """95 % bootstrap of the mean, in points."""
    drawn = np.random.default_rng(0).integers(0, len(errors), (10_000, len(errors)))
    low, high = np.percentile(100 * errors[drawn].mean(axis=1), [2.5, 97.5])
    return [float(low), float(high)]


def _tau(ours: Array, theirs: Array) -> float:
    return float(stats.kendalltau(ours, theirs).statistic)
