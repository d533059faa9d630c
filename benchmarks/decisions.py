"""Intervals and budgets of predictors, judged in sessions of which they know nothing.

python benchmarks/decisions.py [--json] [--sessions DIR] [--kept DIR ...] [--parts 8]
python benchmarks/decisions.py --collect DIR [--device NAME ...]

A predictor is fitted to the rows of one session, and judged by adapters of another session that it has never seen.
`--kept` names folders of the sessions of `prediction_on_device.py`. `--sessions` names a folder of files
`NAME-TIME.json`, one for each session (`decision_sessions.py`); the adapters of two sessions of one name are divided
into parts (`--parts`), of which each is predicted from the others. Two sessions since one boot of the machine, neither
of them under load, are `sessions`; all other pairs are `others`. `--collect` adds one such session of each device, in
about six minutes. Call it once an hour, after restarts and on other days too.

An interval is of the value itself, and a measured value has an error beside it. A row is held if it is within the
hypotenuse of the predicted interval and that of the measured value (level 0.9, from its openings). `..._measured`
counts measured values within the interval alone. Rows of one session are not independent, so shares are means over the
judged sessions, with 95 % t intervals over them (`clustered_interval`). `by_size` has the thirds of the rows by what
the adapter changes. The priors that ship (spread of a session's ratios, and of the base's seconds) are the last entry,
`priors`: those of `kept` and `sessions`, pooled over devices. Each row is judged with the priors of the other devices.

`recalibrated` has the rows that were measured after a look at the base in the judged session: with the spread of the
base between sessions (`ms_before`), and with the base of that look (`ms`), as after `--recalibrate`.
`budgets_of_today` are shares of the base in that look. In sessions of `--kept` the look is the base in the first groups
of programs, with four openings or more. The prior `drift` is the change of the base after a look, beyond that of one
more opening.

`budgets` are 10 relative and 6 absolute ones. Each predictor chooses the adapter with the largest predicted latency of
those it predicts to meet the budget. `budget_met_rate` is the share that another session measured within the budget,
`not_surely_missed` that of measurements whose interval is not wholly beyond it; `unused` is the median share of the
overhead, or of the milliseconds, that the choice leaves.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from decision_sessions import DEVICES, Look, collect, first_groups
from decision_tasks import Rows, Task, change_of, kept_tasks, session_tasks, shift_of
from prediction_cells import LEVEL
from scipy import stats

from adaptare.predictor import FittedPredictor
from adaptare.predictor.intervals import SessionSpread, SessionVariance, base_spread, spread_since
from adaptare.profiler import Measurement

Looks = Mapping[str, Sequence[Look]]
# Standard error of the shift of a session above which it tells nothing of shifts of less than a per cent.
KNOWN_WITHIN = 0.005
ONE_SESSION = np.ones(1)
# Budgets as shares of the base: of the ratio, and of the base's milliseconds in the session of the predictor.
RELATIVE = (0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.10, 0.12, 0.15, 0.20)
ABSOLUTE = (0.03, 0.06, 0.10, 0.15, 0.20, 0.30)
MEASURES = ("ms_interval_held", "ms_upper_passed", "ratio_interval_held", "ratio_upper_passed")
MEASURES += tuple(f"{name}_measured" for name in MEASURES)
MS_MEASURES = tuple(name for name in MEASURES if name.startswith("ms"))


def looks_of(tasks: Sequence[Task]) -> Looks:
    """Looks at the beginning of sessions, by device."""
    found: dict[str, dict[int, Look]] = {}
    for task in tasks:
        looks = (task.look, first_groups(task.fitted) if task.group == "kept" else None)
        found.setdefault(task.device, {}).update({id(look): look for look in looks if look})
    return {device: list(looks.values()) for device, looks in found.items()}


@dataclass(frozen=True)
class Priors:
    """Variances of a session's shift.

    Args:
        ratio: Of its ratios, over `Anchored.change`.
        base: Of the base's seconds.
        drift: Of the base after a look.
    """

    ratio: SessionVariance
    base: SessionVariance
    drift: SessionVariance

    @classmethod
    def of(cls, tasks: Sequence[Task]) -> "Priors":
        """Pooled over devices: one with n judged sessions has n - 1 degrees of freedom, one with a single pair has one.

        A device tells nothing of ratios if its noise exceeds half a per cent.
        """
        ratios: dict[str, list[float]] = {}
        bases: dict[str, list[float]] = {}
        judged: dict[str, set[str]] = {}
        pairs: dict[str, list[Task]] = {}
        for task in tasks:
            pairs.setdefault(task.pair, []).append(task)
        for parts in pairs.values():
            device, (shift, noise) = parts[0].device, shift_of(parts)
            if noise <= KNOWN_WITHIN:
                ratios.setdefault(device, []).append((shift**2 - noise**2) / 2)
            bases.setdefault(device, []).append(np.mean([np.log1p(task.moved) ** 2 / 2 for task in parts]))
            judged.setdefault(device, set()).add(parts[0].session)
        moves = {device: max(1, len(sessions) - 1) for device, sessions in judged.items()}
        drifts = {device: [look.drift for look in looks] for device, looks in looks_of(tasks).items()}
        looks = {device: len(each) for device, each in drifts.items()}
        return cls(pooled(ratios, moves), pooled(bases, moves), pooled(drifts, looks))

    def spread(self) -> tuple[SessionSpread, SessionSpread]:
        """Spread of a new session's ratios, and of its base, after one session."""
        return self.ratio.spread(ONE_SESSION), base_spread(np.zeros(1), prior=self.base)


def fitted_of(task: Task, priors: Priors) -> tuple[FittedPredictor, FittedPredictor | None]:
    """Predictor of a task, and the same after the look at the base."""
    ratio, base = priors.spread()
    predictor = replace(task.predictor, spread=ratio, base_spread=base)
    if task.look is None:
        return predictor, None
    now = predictor.recalibrated(task.look.base_s, task.look.openings)
    return predictor, replace(now, base_spread=spread_since(task.look.base_s, task.look.openings, drift=priors.drift))


def pooled(values: Mapping[str, Sequence[float]], degrees: Mapping[str, int]) -> SessionVariance:
    """Pooled variance: the mean of the devices' variances, each weighted by its degrees of freedom."""
    weights = [degrees[device] for device in values]
    found = float(np.average([np.mean(each) for each in values.values()], weights=weights)) if values else 0.0
    return SessionVariance(max(0.0, found), sum(weights))


def error_of(rows: Rows) -> float:
    """Half-width of the interval of a measured log ratio, from the variance between openings, pooled over all rows."""
    logs = [
        [np.median(np.log(row.ratios[row.openings == each])) for each in set(row.openings.tolist())] for row in rows
    ]
    variance = float(np.mean([np.var(each, ddof=1) / len(each) for each in logs]))
    return float(stats.norm.ppf((1 + LEVEL) / 2)) * variance**0.5


def judge(task: Task, predictor: FittedPredictor, judged: Rows) -> list[dict[str, Any]]:
    """Judged rows: held or not."""
    configs = [row.workload.configuration for row in judged]
    seconds, ratios = predictor.predict_configs(configs), predictor.relative.predict_configs(configs)
    error, found = error_of(task.judged), []
    for number, (row, change) in enumerate(zip(judged, change_of(predictor, judged), strict=True)):
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


def chosen(task: Task, predictor: FittedPredictor, judged: Rows, base: float) -> Iterator[dict[str, Any]]:
    """The adapter that the predictor chooses under each budget, as the judged session measured it.

    Absolute budgets are shares of `base`. `possible` is true if an adapter was
    measured within the budget.
    """
    configs = [row.workload.configuration for row in judged]
    seconds, ratios = predictor.predict_configs(configs), predictor.relative.predict_configs(configs)
    error = error_of(task.judged)
    for kind, predicted, shares in (("relative", ratios, RELATIVE), ("absolute", seconds, ABSOLUTE)):
        unit = predictor.base_value if kind == "relative" else base
        values = np.array(
            [row.ratio.middle * (1 if kind == "relative" else row.reference_raw_s / base) for row in judged]
        )
        for share in shares:
            fits = np.flatnonzero(predicted.upper <= unit * (1 + share))
            own = {"session": task.session, "kind": kind, "budget": share, "possible": bool(values.min() <= 1 + share)}
            if not len(fits):
                yield own | {"met": None, "unused": None}
                continue
            measured = values[fits[predicted.mean[fits].argmax()]]
            unused = 1 - (measured - 1) / share if kind == "relative" else 1 - measured / (1 + share)
            surely = bool(np.exp(-error) * measured > 1 + share)
            yield own | {
                "met": bool(measured <= 1 + share),
                "not_surely_missed": not surely,
                "unused": float(unused),
            }


def clustered(values: Sequence[tuple[str, float]]) -> dict[str, Any]:
    """Mean over the sessions of their means, with a 95 % t interval over sessions."""
    sessions = {session: [] for session, _ in values}
    for session, value in values:
        sessions[session].append(float(value))
    means = np.array([np.mean(each) for each in sessions.values()])
    if not len(means):
        return {"mean": None, "clustered_interval": [0.0, 1.0], "by_session": {}}
    half = float(stats.t.ppf(0.975, len(means) - 1) * stats.sem(means)) if len(means) > 1 else float("inf")
    ends = [max(0.0, float(means.mean()) - half), min(1.0, float(means.mean()) + half)]
    return {
        "mean": float(means.mean()),
        "clustered_interval": ends,
        "by_session": dict(zip(sessions, means, strict=True)),
    }


def result_of(tasks: Sequence[Task], priors: Mapping[str, Priors]) -> dict[str, Any]:
    """Coverage and budgets over all tasks, with the priors for each device."""
    fitted = [fitted_of(task, priors[task.device]) for task in tasks]
    pairs = [(task, predictor, task.judged) for task, (predictor, _) in zip(tasks, fitted, strict=True)]
    rows = [row for pair in pairs for row in judge(*pair)]
    ends = np.quantile([row["change"] for row in rows], [1 / 3, 2 / 3])
    sizes = np.digitize([row["change"] for row in rows], ends)
    moved = {f"{task.device} to {task.session}": task.moved for task in tasks}
    return {
        "sessions": sorted({task.session for task in tasks}),
        **shares(rows, MEASURES),
        "base_moved": sorted(moved.values()),
        "by_size": {
            name: shares([row for row, size in zip(rows, sizes, strict=True) if size == number], MEASURES)
            for number, name in enumerate(("small", "middle", "large"))
        },
        "budgets": {kind: budgets(pairs, kind) for kind in ("relative", "absolute")},
        "recalibrated": recalibrated(tasks, fitted),
    }


def recalibrated(
    tasks: Sequence[Task], fitted: Sequence[tuple[FittedPredictor, FittedPredictor | None]]
) -> dict[str, Any]:
    """Intervals and budgets in milliseconds without and with a look at the base, of the rows after it."""
    found: dict[str, Any] = {}
    for name, which in (("ms_before", 0), ("ms", 1)):
        pairs = [
            (task, predictor, after)
            for task, both in zip(tasks, fitted, strict=True)
            if (predictor := both[which]) and both[1] and task.look and (after := _after(task, task.look))
        ]
        rows = [row for pair in pairs for row in judge(*pair)]
        if rows:
            found[name] = shares(rows, MS_MEASURES) | {"budgets": budgets(pairs, "absolute")}
            found[name]["budgets_of_today"] = budgets(pairs, "absolute", of_today=True)
    return found


def _after(task: Task, look: Look) -> list[Measurement]:
    later = {row.workload.configuration for row in look.after}
    return [row for row in task.judged if row.workload.configuration in later]


def shares(rows: Sequence[Mapping[str, Any]], measures: Sequence[str]) -> dict[str, Any]:
    """Shares of rows, and median half-widths of their intervals."""
    names = dict.fromkeys(measure.partition("_")[0] for measure in measures)
    return {
        "rows": len(rows),
        **{name: clustered([(row["session"], row[name]) for row in rows]) for name in measures},
        **{f"{name}_half_width": float(np.median([row[f"{name}_half_width"] for row in rows])) for name in names},
    }


def budgets(
    pairs: Sequence[tuple[Task, FittedPredictor, Rows]], kind: str, *, of_today: bool = False
) -> dict[str, Any]:
    """Choices under the budgets of a kind, which are shares of the base of the fitted session, or of the look."""
    choices = [
        choice
        for task, predictor, rows in pairs
        for choice in chosen(
            task, predictor, rows, task.look.base_s.middle if of_today and task.look else task.fitted[-1].reference_s
        )
        if choice["kind"] == kind
    ]
    made = [each for each in choices if each["met"] is not None]
    return {
        "asked": len(choices),
        "chosen": len(made),
        "none_fits": len(choices) - len(made),
        "possible": sum(each["possible"] for each in choices),
        **{
            name: clustered([(each["session"], each[key]) for each in made])
            for name, key in (("budget_met_rate", "met"), ("not_surely_missed", "not_surely_missed"))
        },
        "met": sum(each["met"] for each in made),
        "unused": float(np.median([each["unused"] for each in made])) if made else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--sessions", type=Path, help="folder of files NAME-TIME.json")
    parser.add_argument(
        "--kept", type=Path, nargs="+", default=[], help="folders of sessions of prediction_on_device.py"
    )
    parser.add_argument("--parts", type=int, default=8, help="of the adapters of two sessions of --sessions")
    parser.add_argument("--collect", type=Path, metavar="DIR", help="only measure one more session into this folder")
    parser.add_argument("--device", nargs="+", choices=DEVICES, default=list(DEVICES), help="of --collect")
    options = parser.parse_args()
    if options.parts < 2:
        parser.error(f"--parts must be at least 2, so that one part is judged by the others, not {options.parts}")
    if options.collect:
        for name in options.device:
            print(collect(options.collect, name))
        return
    tasks = [task for folder in options.kept for task in kept_tasks(folder)]
    tasks += session_tasks(options.sessions, options.parts) if options.sessions else []
    telling = [task for task in tasks if task.group != "others"]
    devices = {task.device for task in tasks}
    priors = {device: Priors.of([task for task in telling if task.device != device]) for device in devices}
    result: dict[str, Any] = {
        group: result_of(some, priors)
        for group in ("kept", "sessions", "others")
        if (some := [task for task in tasks if task.group == group])
    }
    all_priors = Priors.of(telling)
    result["priors"] = {
        field.name: {"sd": prior.variance**0.5, "degrees": prior.degrees}
        for field in fields(all_priors)
        if (prior := getattr(all_priors, field.name))
    }
    if not tasks:
        raise SystemExit("there are no two sessions of one device; name folders with --sessions or --kept")
    print(json.dumps(result) if options.json else "\n".join(lines(result)))


def lines(result: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """The result as indented text."""
    for key, value in result.items():
        if isinstance(value, Mapping) and "clustered_interval" in value:
            low, high = value["clustered_interval"]
            mean = "none" if value["mean"] is None else f"{value['mean']:.3f}"
            yield f"{indent}{key:36} {mean} [{low:.3f}, {high:.3f}]"
        elif isinstance(value, Mapping):
            yield f"{indent}{key}"
            yield from lines(value, f"{indent}  ")
        else:
            yield f"{indent}{key:36} {value}"


if __name__ == "__main__":
    main()
