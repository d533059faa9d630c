"""Scores of `prediction_on_device.py`: errors and coverage of a cell, and of all cells together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prediction_cells import LEVEL, Cell, Session, planned_of
from prediction_rows import by_rows_of, to_reach
from scipy import stats
from sklearn.base import clone

from adaptare.predictor import FittedPredictor, LatencyPredictor
from adaptare.predictor.fitting.candidates import BASELINES, SIMPLER, candidates
from adaptare.predictor.intervals import SessionSpread, SessionVariance
from adaptare.profiler import Measurement, Workload

Array = NDArray[np.float64]
ONE_SESSION = np.ones(1)
# Error of a prediction over that of one repeated measurement.
GOAL = 1.3
# Standard error of a cell's shift above which it tells nothing of shifts of less than a per cent.
KNOWN_WITHIN = 0.005
COVERED = ("covered_as_fitted", "covered_with_shipped_prior", "covered_without_spread", "covered_relevelled")


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

    def shift(self) -> tuple[float, float]:
        """Mean log ratio of the second session over the first, and its standard error, of what both measured."""
        planned = planned_of(self.cell, self.first, self.second)
        both = [*planned.tested, *planned.references]
        logs = np.log(self.ratios(self.second, both) / self.ratios(self.first, both))
        return float(logs.mean()), float(logs.std(ddof=1) / np.sqrt(len(logs)))


def prior_of(cells: Sequence[Sessions]) -> SessionVariance | None:
    """Variance of the shift of one session: half the mean square of those between two, without what noise explains.

    None where no cell is measured closely enough to tell.
    """
    told = np.array([each.shift() for each in cells if each.shift()[1] <= KNOWN_WITHIN])
    if not len(told):
        return None
    shifts, errors = told.T
    return SessionVariance(max(0.0, float(np.mean(shifts**2 - errors**2)) / 2), len(told))


def judge(cell: Sessions, prior: SessionVariance | None, *, by_rows: bool) -> dict[str, Any]:
    """Errors and coverage of the predictor of a cell, and of simpler answers, on adapters and a session it never saw.

    Args:
        cell: Its sessions.
        prior: Spread between sessions, from other cells; None = the one that ships.
        by_rows: Whether to add errors after fewer rows.
    """
    planned = planned_of(cell.cell, cell.first, cell.second)
    training: list[Measurement] = [cell.first[each.configuration] for each in planned.training]
    shipped = LatencyPredictor().fit(training)
    as_fitted = shipped if prior is None else _with_spread(shipped, prior.spread(ONE_SESSION))
    without = _with_spread(shipped, SessionSpread(0.0))
    relevelled = shipped.relevelled([cell.second[each.configuration] for each in planned.references])
    truth, again = (cell.ratios(session, planned.tested) for session in (cell.second, cell.first))
    answers = {
        name: Answers.of(predictor, planned.tested, truth)
        for name, predictor in zip(COVERED, (as_fitted, shipped, without, relevelled), strict=True)
    }
    own = answers["covered_as_fitted"]
    errors = {fit: np.abs(each - truth) for fit, each in _others(shipped, training, planned.tested).items()}
    retest = np.abs(again - truth)
    shift, shift_error = cell.shift()
    goal = GOAL * _points(retest)
    found = {
        "cell": cell.name,
        "device": cell.cell.device,
        "rows": len(training),
        "tested": len(truth),
        "chosen": shipped.chosen,
        "overhead_points": [100 * float(bound) for bound in (truth.min() - 1, truth.max() - 1)],
        "mae_points": _points(own.errors),
        "mae_points_interval": _interval(own.errors),
        "mae_points_relevelled": _points(answers["covered_relevelled"].errors),
        "mae_points_constant": _points(errors["constant"]),
        "retest_points": _points(retest),
        "retest_points_interval": _interval(retest),
        "mae_points_baselines": {fit: _points(each) for fit, each in errors.items()},
        "p_not_better": _not_better(own.errors, {name: errors[name] for name in ("constant", *SIMPLER)}),
        "p_not_better_than_retest": _not_better(own.errors, {"retest": retest})["retest"],
        "tau": _tau(own.ratios, truth),
        "retest_tau": _tau(again, truth),
        "session_shift": shift,
        "session_shift_standard_error": shift_error,
        "prior_sd": None if prior is None else prior.variance**0.5,
        **{name: int(each.inside.sum()) for name, each in answers.items()},
        **{f"upper_end_{name.replace('covered', 'passed')}": int(each.above.sum()) for name, each in answers.items()},
        **{name.replace("covered", "half_width_points"): each.half_width for name, each in answers.items()},
        "constant_passes": _points(errors["constant"]) <= goal,
        "meets": {
            "mae": _points(own.errors) <= goal,
            "tau": _tau(own.ratios, truth) >= 0.95 * _tau(again, truth),
        },
    }
    if by_rows:
        table = by_rows_of(planned, cell.first, cell.second)
        found |= {"mae_points_by_rows": table, "to_reach": to_reach(_points(own.errors), table)}
    return found


@dataclass(frozen=True, eq=False)
class Answers:
    """A predictor's answers for adapters whose latency ratio was measured. Shape (n,) each.

    Args:
        ratios: Predicted.
        errors: Absolute.
        inside: Measured within the interval.
        above: Measured above its upper end.
        half_width: Median half-width, points.
    """

    ratios: Array
    errors: Array
    inside: NDArray[np.bool_]
    above: NDArray[np.bool_]
    half_width: float

    @classmethod
    def of(cls, predictor: FittedPredictor, tested: Sequence[Workload], truth: Array) -> "Answers":
        """Of `predictor`, for the tested workloads, given their measured ratios."""
        said = predictor.predict_configs([each.configuration for each in tested])
        mean, lower, upper = (ends / predictor.base_value for ends in (said.mean, said.lower, said.upper))
        half_width = 100 * float(np.median((upper - lower) / 2))
        return cls(mean, np.abs(mean - truth), (lower <= truth) & (truth <= upper), truth > upper, half_width)


def pooled(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Coverage of the rows of all cells, with 95 % intervals."""
    tested = sum(each["tested"] for each in cells)
    result: dict[str, Any] = {"tested": tested}
    for key in COVERED:
        covered = stats.binomtest(sum(each[key] for each in cells), tested)
        low, high = covered.proportion_ci(0.95, method="wilson")
        name = key.replace("covered", "pooled_coverage")
        result |= {name: covered.statistic, f"{name}_interval": [float(low), float(high)]}
    passed = sum(each["upper_end_passed_as_fitted"] for each in cells)
    low, high = result["pooled_coverage_as_fitted_interval"]
    return {
        **result,
        "upper_end_passed_as_fitted": passed,
        "upper_end_passed_expected": tested * (1 - LEVEL) / 2,
        "pooled_coverage_if_exact": exact_coverage(cells),
        "constant_passes": [each["cell"] for each in cells if each["constant_passes"]],
        "meets_coverage": low <= LEVEL <= high,
    }


def exact_coverage(cells: Sequence[Mapping[str, Any]]) -> list[float]:
    """Where 95 % of pooled coverages lie if intervals are exact: rows of a cell share what its width was learned from.

    Coverage given n residuals is distributed as Beta((n + 1) level, (n + 1) (1 - level)): Vovk 2012, "Conditional
    validity of inductive conformal predictors". Counting rows as if each had an interval of its own is too narrow.
    """
    rng, covered = np.random.default_rng(0), np.zeros(100_000)
    for each in cells:
        known = each["rows"] + 1
        covered += rng.binomial(each["tested"], rng.beta(LEVEL * known, (1 - LEVEL) * known, len(covered)))
    return [float(end) for end in np.percentile(covered / sum(each["tested"] for each in cells), [2.5, 97.5])]


def _with_spread(predictor: FittedPredictor, spread: SessionSpread) -> FittedPredictor:
    return replace(predictor, spread=spread)


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
