"""Errors of predictors after fewer rows, and at lengths left out: `prediction_on_device.py --by-rows`, `--lengths`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prediction_cells import Plan, Session
from scipy import stats

from adaptare.devices import SimulatedDevice
from adaptare.predictor import FeatureSet, LatencyPredictor, at_length
from adaptare.predictor.adaptive import next_rows
from adaptare.predictor.intervals import PRIOR_SD
from adaptare.profiler import Configuration, Measurement, ModelShape, Phase, Workload, named_space
from adaptare.profiler.store.measurement import Visit

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
    features = FeatureSet.of(planned.training[0], [])
    X = features.matrix(features.values([each.configuration for each in planned.training]))
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


@dataclass(frozen=True)
class Lengths:
    """Lengths that are measured, and one between them that is not.

    Args:
        phase: Prefill or decode.
        known: Measured lengths.
        left_out: The length that is predicted.
    """

    phase: Phase
    known: tuple[int, ...]
    left_out: int


LEFT_OUT = (
    Lengths("decode", (64, 1024), 256),
    Lengths("decode", (64, 512, 1024), 256),
    Lengths("prefill", (32, 512), 128),
    Lengths("prefill", (32, 256, 512), 128),
)
# SmolLM2-135M on a simulated device: 24 adapters at each length, each length a session of its own; 1 % error of a row,
# and the usual shift of a session.
SHAPE = ModelShape("llama", 30, 576, 9, 3, 64, 1536, 49152, "{}")
DEVICE = SimulatedDevice(launch_s=1e-5)
ADAPTERS, UNSEEN, ROW_SD, LENGTH_DRAWS = 24, 60, 0.01, 12


def lengths_of(case: Lengths) -> dict[str, Any]:
    """Error at the length left out, per cent of latency, and coverage: one predictor, and one for each length.

    The predictors of single lengths answer with the mean of the two nearest, weighted by the distance in length, and
    with the wider of their intervals: `adaptare interpolate` of earlier versions.
    """
    space = named_space("kinds", SHAPE, ranks=(0, 1, 2, 4, 8, 16, 32))
    found: dict[str, list[tuple[float, float]]] = {"one predictor": [], "one for each length": []}
    for seed in range(LENGTH_DRAWS):
        rng = np.random.default_rng(seed)
        train, unseen = ([space.decode(row) for row in space.at(space.spread(n, rng))] for n in (ADAPTERS, UNSEEN))
        template = Workload(SHAPE, phase=case.phase)
        rows = {length: _session(at_length(template, length), train, rng) for length in case.known}
        truth = _seconds(at_length(template, case.left_out), unseen)
        measured = truth * np.exp(PRIOR_SD * rng.standard_normal() + ROW_SD * rng.standard_normal(len(truth)))
        joint = LatencyPredictor().fit([row for some in rows.values() for row in some]).at(case.left_out)
        one = joint.relative.predict_configs(unseen)
        upper = min(length for length in case.known if length > case.left_out)
        lower = max(length for length in case.known if length < case.left_out)
        ends = [LatencyPredictor().fit(rows[length]) for length in (lower, upper)]
        share = (case.left_out - lower) / (upper - lower)
        short, long = (end.relative.predict_configs(unseen) for end in ends)
        mean = (1 - share) * short.mean + share * long.mean
        half_widths = np.maximum(short.upper / short.mean, long.upper / long.mean) - 1
        found["one predictor"].append(_judged(one.mean, one.upper / one.mean - 1, truth, measured))
        found["one for each length"].append(_judged(mean, half_widths, truth, measured))
    return {
        "lengths": f"{case.phase} {', '.join(map(str, case.known))}: {case.left_out}",
        **{name: _means(draws) for name, draws in found.items()},
    }


def _session(template: Workload, configs: Sequence[Configuration], rng: np.random.Generator) -> list[Measurement]:
    base_s = DEVICE.latency_s(template.base.work())
    shift = PRIOR_SD * rng.standard_normal()
    steady = tuple(Visit(0, number, base_s, (base_s,)) for number in range(3))
    rows = []
    for config, seconds in zip(configs, _seconds(template, configs), strict=True):
        noisy = seconds * float(np.exp(shift + ROW_SD * rng.standard_normal()))
        visits = tuple(replace(visit, samples_s=(noisy,)) for visit in steady)
        workload = template.with_configuration(config)
        session = f"{template.length}"
        rows.append(Measurement(workload, DEVICE.info(), template.base, base_s, session, visits, steady))
    return rows


def _seconds(template: Workload, configs: Sequence[Configuration]) -> NDArray[np.float64]:
    return np.array([DEVICE.latency_s(template.with_configuration(each).work()) for each in configs])


def _judged(
    mean: NDArray[np.float64],
    half_widths: NDArray[np.float64],
    truth: NDArray[np.float64],
    measured: NDArray[np.float64],
) -> tuple[float, float]:
    """Mean absolute error, per cent of the true latency, and share of new measurements inside the interval."""
    inside = np.abs(measured / mean - 1) <= half_widths
    return 100 * float(np.abs(mean / truth - 1).mean()), float(inside.mean())


def _means(draws: Sequence[tuple[float, float]]) -> dict[str, list[float]]:
    """Mean over the draws, with its 95 % interval (Student's t)."""
    table, allowed = np.array(draws), stats.t.ppf(0.975, len(draws) - 1) / np.sqrt(len(draws))
    means, errors = table.mean(axis=0), allowed * table.std(axis=0, ddof=1)
    return {
        name: [float(mean), float(mean - error), float(mean + error)]
        for name, mean, error in zip(("error", "covered"), means, errors, strict=True)
    }
