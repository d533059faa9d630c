"""Errors of predictors after fewer rows, for `prediction_on_device.py --by-rows`."""

from collections.abc import Mapping, Sequence

import numpy as np
from prediction_cells import Plan, Session

from adaptare.predictor import FeatureSet, LatencyPredictor
from adaptare.predictor.fitting.sampling import next_rows
from adaptare.predictor.fitting.training_rows import codes_of
from adaptare.profiler import Measurement, Workload

FEWER, DRAWS = (10, 15, 20, 30, 40), 24
# As many as `adaptare profile --until-error` measures at once.
BATCH = 8
# Error over that with all training rows from which on a predictor counts as having learned.
LEARNED = 1.15


def by_rows_of(planned: Plan, first: Session, second: Session) -> list[dict[str, float]]:
    """Error after fewer rows, and the device's seconds for them.

    `design` takes the first of the design, `telling` goes on from its beginning as `adaptare profile --until-error`
    does, and `random` draws from those that are tested; all are judged by what is left of these.
    """
    telling, table = _telling(planned), []
    for rows in FEWER:
        if rows >= min(len(planned.training), len(planned.tested)):
            break
        errors: dict[str, list[float]] = {"design": [], "telling": [], "random": []}
        chosen = {"design": planned.training[:rows], "telling": telling[:rows]}
        fitted = {name: LatencyPredictor().fit(_of(first, some)) for name, some in chosen.items()}
        for seed in range(DRAWS):
            order = np.random.default_rng(seed).permutation(len(planned.tested))
            drawn, rest = ([planned.tested[index] for index in some] for some in (order[:rows], order[rows:]))
            truth = np.array([each.ratio.middle for each in _of(second, rest)])
            for name, predictor in {**fitted, "random": LatencyPredictor().fit(_of(first, drawn))}.items():
                mean_s = predictor.predict_configs([each.configuration for each in rest]).mean
                errors[name].append(100 * float(np.abs(mean_s / predictor.base_value - truth).mean()))
        seconds = {f"{name}_s": _device_s(_of(first, some)) for name, some in chosen.items()}
        seconds["random_s"] = _device_s(_of(first, planned.tested)) * rows / len(planned.tested)
        table.append({"rows": rows, **{name: float(np.mean(each)) for name, each in errors.items()}, **seconds})
    return table


def to_reach(
    points_with_all: float, table: Sequence[Mapping[str, float]]
) -> dict[str, Mapping[str, float] | float | None]:
    """Fewest rows of `by_rows_of`, and seconds, from which on the error stays close to that with all rows."""
    points = LEARNED * points_with_all
    found: dict[str, Mapping[str, float] | float | None] = {"points": points}
    for name in ("design", "telling", "random"):
        within = [all(later[name] <= points for later in table[number:]) for number in range(len(table))]
        row = table[within.index(True)] if any(within) else None
        found[name] = {"rows": row["rows"], "seconds": row[f"{name}_s"]} if row else None
    return found


def _of(session: Session, workloads: Sequence[Workload]) -> list[Measurement]:
    return [session[each.configuration] for each in workloads]


def _telling(planned: Plan) -> list[Workload]:
    """The training rows: the first of the design, and then batches of the most telling ones."""
    features = FeatureSet(planned.training[0], planned.training[0].scope_sites)
    X = features.matrix(codes_of([each.configuration for each in planned.training], features.columns))
    taken = list(range(FEWER[0]))
    while len(taken) < len(planned.training):
        left = np.setdiff1d(np.arange(len(planned.training)), taken)
        taken += left[next_rows(X[taken], X[left], min(BATCH, len(left)))].tolist()
    return [planned.training[index] for index in taken]


def _device_s(measurements: Sequence[Measurement]) -> float:
    """Device time without the reference that all share: loading, warming up and every call, seconds."""
    return sum(
        each.load_s * len(np.unique(each.openings))
        + sum(each.warmup_s)
        + sum(visit.touch_s + sum(visit.samples_s) for visit in each.visits)
        for each in measurements
    )
