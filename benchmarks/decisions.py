"""Intervals and budgets of predictors, judged in sessions of which they know nothing.

python benchmarks/decisions.py [--json] [--sessions DIR] [--kept DIR ...]
python benchmarks/decisions.py --collect DIR [--device ort-cpu:int4,threads=1]

A predictor is fitted to the rows of one session, and judged by adapters of another session that it has never seen.
`--kept` names folders of the sessions of `prediction_on_device.py`. `--sessions` names a folder of stores
`NAME-TIME.sqlite`, one for each session; the adapters of one name are divided into two halves, of which each is
predicted from the other. `--collect` measures one such session. Call it once an hour, after restarts too.

An interval is of the value itself, and a measured value has an error beside it. A row is held if it is within the
hypotenuse of the predicted interval and that of the measured value (level 0.9, from its openings). `..._measured`
counts measured values within the interval alone. Rows of one session are not independent, so shares are means over the
judged sessions, with 95 % t intervals over them (`clustered_interval`). `by_size` has the thirds of the rows by what
the adapter changes. Sessions of `--kept`, from which the priors that ship come (spread of a session's ratios, and of
the base's seconds), are judged with the priors of the other devices. `ratio_prior` and `base_prior` are those of all.

`budgets` are 10 relative and 6 absolute ones. Each predictor chooses the adapter with the largest predicted latency of
those it predicts to meet the budget. `budget_met_rate` is the share that another session measured within the budget,
`not_surely_missed` that of measurements whose interval is not wholly beyond it; `unused` is the median share of the
overhead, or of the milliseconds, that the choice leaves.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prediction_cells import LEVEL, MODEL, RANKS, SPACE, Session, planned_of
from prediction_on_device import sessions_in
from scipy import stats

from adaptare.predictor import FittedPredictor, LatencyPredictor
from adaptare.predictor.intervals import SessionVariance, base_spread
from adaptare.profiler import Measurement, Store

Array = NDArray[np.float64]
Rows = Sequence[Measurement]
# Standard error of the shift of a session above which it tells nothing of shifts of less than a per cent.
KNOWN_WITHIN = 0.005
ONE_SESSION = np.ones(1)
# Budgets as shares of the base: of the ratio, and of the base's milliseconds in the session of the predictor.
RELATIVE = (0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.10, 0.12, 0.15, 0.20)
ABSOLUTE = (0.03, 0.06, 0.10, 0.15, 0.20, 0.30)
DEVICES = {"ort-int4": "ort-cpu:int4,threads=1", "torch-fp32": "torch-cpu:threads=1"}
MEASURES = ("ms_interval_held", "ms_upper_passed", "ratio_interval_held", "ratio_upper_passed")
MEASURES += tuple(f"{name}_measured" for name in MEASURES)


@dataclass(frozen=True)
class Task:
    """Rows of one session to fit, and rows of another session to judge by, of other adapters."""

    device: str
    fitted: Rows
    judged: Rows
    session: str

    @property
    def moved(self) -> float:
        """Relative change of the base from its calibration in the fitted session to the judged one."""
        return base_of(self.judged) / self.fitted[-1].reference_s - 1


def base_of(rows: Rows) -> float:
    """Seconds of the base in a session."""
    return float(np.median([row.reference_raw_s for row in rows]))


def kept_tasks(folder: Path) -> list[Task]:
    """Tasks of the sessions of `prediction_on_device.py`."""
    found = []
    for cell in sessions_in(folder):
        planned = planned_of(cell.cell, cell.first, cell.second)
        fitted, judged = (
            [session[each.configuration] for each in some]
            for session, some in ((cell.first, planned.training), (cell.second, planned.tested))
        )
        found.append(Task(cell.name, fitted, judged, cell.name))
    return found


def session_tasks(folder: Path) -> list[Task]:
    """Tasks of the stores `NAME-TIME.sqlite` of a folder: every pair of sessions, and both halves of the adapters."""
    devices: dict[str, dict[str, Session]] = {}
    for file in sorted(folder.glob("*.sqlite")):
        rows = [row for row in Store(file).measurements() if row.complete and row.workload.configuration.ranks]
        name, _, label = file.stem.rpartition("-")
        devices.setdefault(name, {})[label] = {row.workload.configuration: row for row in rows}
    return [task for name, sessions in devices.items() for task in _pairs(name, sessions)]


def _pairs(name: str, sessions: Mapping[str, Session]) -> Iterator[Task]:
    shared = sorted(set.intersection(*map(set, sessions.values())), key=str)
    order = np.random.default_rng(0).permutation(len(shared))
    for first, fitted in sessions.items():
        for second, judged in sessions.items():
            for half in (0, 1) if first != second else ():
                ours, theirs = (
                    [rows[shared[index]] for index in order[part::2]]
                    for rows, part in ((fitted, half), (judged, 1 - half))
                )
                yield Task(name, ours, theirs, f"{name} {second}")


def fitted_of(task: Task, others: Sequence[Task]) -> FittedPredictor:
    """Predictor of a task, with the priors that other devices give, or else those that ship."""
    predictor = LatencyPredictor().fit(task.fitted)
    others = [each for each in others if each.device != task.device]
    if not others:
        return predictor
    ratio, base = priors(others)
    return replace(predictor, spread=ratio.spread(ONE_SESSION), base_spread=base_spread(np.zeros(1), prior=base))


def priors(tasks: Sequence[Task]) -> tuple[SessionVariance, SessionVariance]:
    """Variances of a session's shift: of ratios over `Anchored.change`, and of the base; one vote for each device.

    A device tells nothing of ratios if its noise exceeds half a per cent.
    """
    ratios: dict[str, list[float]] = {}
    bases: dict[str, list[float]] = {}
    for task in tasks:
        errors, change = residuals_of(task)
        shift = errors.mean() / change.mean()
        noise = errors.std(ddof=1) / np.sqrt(len(errors)) / change.mean()
        if noise <= KNOWN_WITHIN:
            ratios.setdefault(task.device, []).append((shift**2 - noise**2) / 2)
        bases.setdefault(task.device, []).append(np.log1p(task.moved) ** 2 / 2)

    def variance(values: Mapping[str, list[float]]) -> SessionVariance:
        return SessionVariance(max(0.0, float(np.mean([np.mean(each) for each in values.values()]))), len(values))

    return variance(ratios), variance(bases)


def residuals_of(task: Task) -> tuple[Array, Array]:
    """Log of the judged ratios over the predicted ones, and `Anchored.change`. Shape (n,)."""
    predictor = LatencyPredictor().fit(task.fitted)
    found = predictor.predict_configs([row.workload.configuration for row in task.judged])
    ratios = np.array([row.ratio.middle for row in task.judged])
    return np.log(ratios * predictor.base_value / found.mean), change_of(predictor, task.judged)


def change_of(predictor: FittedPredictor, rows: Rows) -> Array:
    """See `Anchored.change`."""
    values = predictor.features.values([row.workload.configuration for row in rows])
    return predictor.regressor.change(predictor.features.matrix(values))


def error_of(rows: Rows) -> float:
    """Half-width of the interval of a measured log ratio, from the variance between openings, pooled over all rows."""
    logs = [
        [np.median(np.log(row.ratios[row.openings == each])) for each in set(row.openings.tolist())] for row in rows
    ]
    variance = float(np.mean([np.var(each, ddof=1) / len(each) for each in logs]))
    return float(stats.norm.ppf((1 + LEVEL) / 2)) * variance**0.5


def judge(task: Task, predictor: FittedPredictor) -> list[dict[str, Any]]:
    """Every judged row: held or not."""
    configs = [row.workload.configuration for row in task.judged]
    seconds, ratios = predictor.predict_configs(configs), predictor.relative.predict_configs(configs)
    error, found = error_of(task.judged), []
    for number, (row, change) in enumerate(zip(task.judged, change_of(predictor, task.judged), strict=True)):
        own: dict[str, Any] = {"session": task.session, "change": float(change)}
        for name, predicted, measured in (
            ("ms", seconds, row.ratio.middle * row.reference_raw_s),
            ("ratio", ratios, row.ratio.middle * predictor.base_value),
        ):
            ends = np.log([predicted.lower[number], predicted.upper[number]]) - np.log(predicted.mean[number])
            shift = np.log(measured / predicted.mean[number])
            for suffix, noise in (("", error), ("_measured", 0.0)):
                lower, upper = -np.hypot(ends[0], noise), np.hypot(ends[1], noise)
                own[f"{name}_interval_held{suffix}"] = bool(lower <= shift <= upper)
                own[f"{name}_upper_passed{suffix}"] = bool(shift > upper)
            own[f"{name}_half_width"] = float(np.expm1(ends[1]))
        found.append(own)
    return found


def chosen(task: Task, predictor: FittedPredictor) -> Iterator[dict[str, Any]]:
    """The adapter that the predictor chooses under each budget, as the judged session measured it."""
    configs = [row.workload.configuration for row in task.judged]
    seconds, ratios = predictor.predict_configs(configs), predictor.relative.predict_configs(configs)
    base, error = predictor.base_value, error_of(task.judged)
    for kind, predicted, shares in (("relative", ratios, RELATIVE), ("absolute", seconds, ABSOLUTE)):
        for share in shares:
            fits = np.flatnonzero(predicted.upper <= base * (1 + share))
            if not len(fits):
                yield {"session": task.session, "kind": kind, "budget": share, "met": None, "unused": None}
                continue
            row = task.judged[fits[predicted.mean[fits].argmax()]]
            measured = row.ratio.middle * (1 if kind == "relative" else row.reference_raw_s / base)
            unused = 1 - (measured - 1) / share if kind == "relative" else 1 - measured / (1 + share)
            met = bool(measured <= 1 + share)
            surely = bool(np.exp(-error) * measured > 1 + share)
            found = {"met": met, "not_surely_missed": not surely, "unused": float(unused)}
            yield {"session": task.session, "kind": kind, "budget": share, **found}


def clustered(values: Sequence[tuple[str, float]]) -> dict[str, Any]:
    """Mean over the sessions of their means, with a 95 % t interval over sessions."""
    sessions = {session: [] for session, _ in values}
    for session, value in values:
        sessions[session].append(float(value))
    means = np.array([np.mean(each) for each in sessions.values()])
    half = float(stats.t.ppf(0.975, len(means) - 1) * stats.sem(means)) if len(means) > 1 else float("inf")
    ends = [max(0.0, float(means.mean()) - half), min(1.0, float(means.mean()) + half)]
    return {
        "mean": float(means.mean()),
        "clustered_interval": ends,
        "by_session": dict(zip(sessions, means, strict=True)),
    }


def result_of(tasks: Sequence[Task], others: Sequence[Task]) -> dict[str, Any]:
    """Coverage and budgets over all tasks, with the priors that those of other devices among `others` give."""
    predictors = [fitted_of(task, others) for task in tasks]
    rows = [row for pair in zip(tasks, predictors, strict=True) for row in judge(*pair)]
    choices = [choice for pair in zip(tasks, predictors, strict=True) for choice in chosen(*pair)]
    ends = np.quantile([row["change"] for row in rows], [1 / 3, 2 / 3])
    sizes = np.digitize([row["change"] for row in rows], ends)
    moved = {f"{task.device} to {task.session}": task.moved for task in tasks}
    ratio, base = priors(tasks)

    def shares(some: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        widths = {
            f"{name}_half_width": float(np.median([row[f"{name}_half_width"] for row in some]))
            for name in ("ms", "ratio")
        }
        return {
            "rows": len(some),
            **{name: clustered([(row["session"], row[name]) for row in some]) for name in MEASURES},
            **widths,
        }

    def budgets(kind: str) -> dict[str, Any]:
        made = [each for each in choices if each["kind"] == kind and each["met"] is not None]
        return {
            "chosen": len(made),
            "none_fits": sum(each["kind"] == kind and each["met"] is None for each in choices),
            "budget_met_rate": clustered([(each["session"], each["met"]) for each in made]),
            "not_surely_missed": clustered([(each["session"], each["not_surely_missed"]) for each in made]),
            "unused": float(np.median([each["unused"] for each in made])),
        }

    return {
        "sessions": sorted({task.session for task in tasks}),
        **shares(rows),
        "base_moved": sorted(moved.values()),
        "by_size": {
            name: shares([row for row, size in zip(rows, sizes, strict=True) if size == number])
            for number, name in enumerate(("small", "middle", "large"))
        },
        "budgets": {kind: budgets(kind) for kind in ("relative", "absolute")},
        "ratio_prior": [ratio.variance**0.5, ratio.degrees],
        "base_prior": [base.variance**0.5, base.degrees],
    }


def collect(folder: Path, device: str) -> None:
    """Measures one session of 48 adapters into a store of its own; some minutes."""
    folder.mkdir(parents=True, exist_ok=True)
    name = next((name for name, spelling in DEVICES.items() if spelling == device), device.replace(":", "-"))
    file = folder / f"{name}-{time.strftime('%Y%m%dT%H%M', time.gmtime())}.sqlite"
    command = ["profile", MODEL, "--device", device, "--space", SPACE, "--rank", ",".join(map(str, RANKS))]
    command += ["--count", "48", "--seconds", "75", "--store", str(file)]
    subprocess.run([sys.executable, "-m", "adaptare", *command], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--sessions", type=Path, help="folder of stores NAME-TIME.sqlite")
    parser.add_argument(
        "--kept", type=Path, nargs="+", default=[], help="folders of sessions of prediction_on_device.py"
    )
    parser.add_argument("--collect", type=Path, metavar="DIR", help="only measure one more session into this folder")
    parser.add_argument("--device", default=DEVICES["ort-int4"], help="of --collect")
    options = parser.parse_args()
    if options.collect:
        collect(options.collect, options.device)
        return
    groups = {"kept": [task for folder in options.kept for task in kept_tasks(folder)]}
    groups["sessions"] = session_tasks(options.sessions) if options.sessions else []
    result = {name: result_of(tasks, groups["kept"] * (name == "kept")) for name, tasks in groups.items() if tasks}
    if not result:
        raise SystemExit("there are no two sessions of one device; name folders with --sessions or --kept")
    print(json.dumps(result) if options.json else "\n".join(lines(result)))


def lines(result: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """The result as indented text."""
    for key, value in result.items():
        if isinstance(value, Mapping) and "clustered_interval" in value:
            low, high = value["clustered_interval"]
            yield f"{indent}{key:36} {value['mean']:.3f} [{low:.3f}, {high:.3f}]"
        elif isinstance(value, Mapping):
            yield f"{indent}{key}"
            yield from lines(value, f"{indent}  ")
        else:
            yield f"{indent}{key:36} {value}"


if __name__ == "__main__":
    main()
