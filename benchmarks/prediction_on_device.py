"""What a predictor is off on a device of today, beside what measuring a second time is off.

python benchmarks/prediction_on_device.py [--json] [--only CELL ...] [--kept DIR]

A cell is a device, a base, a phase and an application mode of SmolLM2-135M. Its first session measures the adapters
that the predictor learns from, spread over what they cost, and others, drawn by chance, that it never sees. The
second, in another process and at least ten minutes later, measures those others again, and that is what counts: a
prediction is off from it, and so is the first measurement of the same adapter (`retest`). Among them stand some of the
adapters that were learned from, evenly spread over the session, which re-level the predictor; beside the comparison
with simpler fits stands one after moving all by what they are off from those on average (`moved`). Overheads are in
points: hundredths of the latency of the base.

With `--kept` sessions are kept, and those that are there are not measured again. Those of one machine are in
`measured/prediction`, to be unpacked with `xz -dk`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.base import clone

from adaptare.devices import connect
from adaptare.predictor import BASELINES, CANDIDATES, LEVEL, SIMPLER, FeatureSet, LatencyPredictor, codes_of, next_rows
from adaptare.profiler import (
    FixedRounds,
    Measurement,
    Mode,
    Phase,
    Quantisation,
    Store,
    Workload,
    design,
    named_space,
    open_model,
    profile_groups,
)

Array = NDArray[np.float64]
MODEL, SPACE, RANKS = "smollm2-135m", "kinds", (0, 1, 2, 4, 8, 16, 32)
TRAINING, TESTED, REFERENCES = 48, 60, 19
SESSIONS = ("first", "second")
APART_S = 600
FEWER, DRAWS = (10, 15, 20, 30, 40), 24
# As many as `adaptare profile --until-error` measures at once.
BATCH = 8
# So much more than with all training rows counts as having learned it.
LEARNED = 1.15


@dataclass(frozen=True)
class Cell:
    """What stays the same while the adapters change, and how long each session measures.

    Args:
        device: As on the command line.
        quantisation: Of the base.
        phase: Prefill of 64 tokens, or decode of one after 64.
        mode: How adapters are applied.
        openings: Of every program.
        rounds: In each opening.
    """

    device: str
    quantisation: Quantisation
    phase: Phase
    mode: Mode
    openings: int
    rounds: int


CELLS = {
    "ort/int4/decode": Cell("ort-cpu:threads=1", "int4", "decode", "static", 8, 4),
    "ort/fp32/decode": Cell("ort-cpu:threads=1", "none", "decode", "static", 7, 4),
    "ort/fp32/prefill": Cell("ort-cpu:threads=1", "none", "prefill", "swappable", 3, 3),
    "torch/fp32/decode": Cell("torch-cpu:threads=1", "none", "decode", "swappable", 4, 4),
}


@dataclass(frozen=True)
class Plan:
    """The adapters of a cell.

    Args:
        base: Without adapter.
        training: What the predictor learns from.
        tested: What it is judged by; none of them is among the others.
        references: Some of `training`, measured again in the second session.
    """

    base: Workload
    training: tuple[Workload, ...]
    tested: tuple[Workload, ...]
    references: tuple[Workload, ...]

    def session(self, which: str) -> list[Workload]:
        """In the order in which a session measures them."""
        if which == "first":
            every = [*self.training, *self.tested]
            return [every[index] for index in np.random.default_rng(1).permutation(len(every))]
        places: dict[Workload, float] = {each: index for index, each in enumerate(self.tested)}
        between = np.linspace(-0.5, len(self.tested) - 0.5, REFERENCES)
        places |= dict(zip(self.references, between, strict=True))
        return sorted(places, key=places.__getitem__)


def plan(cell: Cell) -> Plan:
    """The same for every session."""
    shape = open_model(MODEL).shape
    template = Workload(shape, mode=cell.mode, phase=cell.phase, quantisation=cell.quantisation)
    space, rng = named_space(SPACE, shape, ranks=RANKS), np.random.default_rng(0)
    training = design(space, TRAINING, seed=0)
    known = {row.tobytes() for row in (*training, np.zeros(space.n_sites, dtype=np.int64))}
    drawn = np.unique(space.expand(space.spread(2 * TESTED, rng)), axis=0)
    tested = [row for row in rng.permutation(drawn) if row.tobytes() not in known][:TESTED]
    first, second = (tuple(template.with_adapter(space.decode(row)) for row in rows) for rows in (training, tested))
    references = tuple(first[index] for index in rng.choice(TRAINING, REFERENCES, replace=False))
    return Plan(template.base, first, second, references)


def measure(name: str, which: str, folder: Path) -> None:
    """One session of a cell, into a store of its own."""
    cell = CELLS[name]
    planned, store = plan(cell), Store(store_of(name, which, folder))
    groups = profile_groups(
        planned.session(which),
        reference=planned.base,
        device=connect(cell.device),
        stop=FixedRounds(cell.rounds),
        seed=SESSIONS.index(which),
        openings=cell.openings,
    )
    for group in groups:
        if failures := [each.failure for each in group if each.failure]:
            raise SystemExit(f"not measured on {cell.device}: {failures[0]}")
        store.append(group)


def store_of(name: str, which: str, folder: Path) -> Path:
    """Where a session is kept."""
    return folder / f"{name.replace('/', '-')}-{which}.sqlite"


def measured(
    name: str, which: str, folder: Path, *, after: Mapping[Workload, Measurement] = MappingProxyType({})
) -> Mapping[Workload, Measurement]:
    """A session that was measured, or is now, in a process of its own. Ends the program if it broke off.

    Args:
        name: Of the cell.
        which: Of its sessions.
        folder: Where it is kept.
        after: Measured before it; a session that is older is measured anew.
    """
    file, wanted = store_of(name, which, folder), plan(CELLS[name]).session(which)
    begun = max((each.taken_at for each in after.values()), default="")
    for attempt in range(2):
        found = {each.workload: each for each in Store(file).measurements()} if file.exists() else {}
        if set(found) >= set(wanted) and min(each.taken_at for each in found.values()) > begun:
            return found
        if attempt == 0:
            file.unlink(missing_ok=True)
            if after:
                ended = store_of(name, "first", folder).stat().st_mtime
                time.sleep(max(0.0, ended + APART_S - time.time()))
            print(f"{name}: the {which} session", file=sys.stderr, flush=True)
            subprocess.run(
                [sys.executable, __file__, "--session", name, which, "--kept", str(folder)],
                check=True,
                stdout=sys.stderr,
            )
    raise SystemExit(f"{file} does not hold the whole session; delete it and start again")


def judge(name: str, first: Mapping[Workload, Measurement], second: Mapping[Workload, Measurement]) -> dict[str, Any]:
    """What the predictor of a cell is off, and what else would be."""
    cell = CELLS[name]
    planned = plan(cell)
    training = [first[each] for each in planned.training]
    predictor = LatencyPredictor().fit(training)
    truth, again = (np.array([found[each].ratio.middle for each in planned.tested]) for found in (second, first))
    relevelled = predictor.relevelled([second[each] for each in planned.references])
    ratios, inside, half_width = _answers(predictor, planned.tested, truth)
    relevelled_ratios, relevelled_inside, relevelled_half_width = _answers(relevelled, planned.tested, truth)
    off = np.abs(ratios - truth)
    errors = {fit: each - truth for fit, each in _others(predictor, training, planned.tested).items()}
    retest, table = np.abs(again - truth), by_rows(planned, first, second)
    chosen, known = predictor.chosen, np.array([second[each].ratio.middle for each in planned.references])
    of_references = _others(predictor, training, planned.references)
    # By what each is off on average from the references: that the second session is not the first is nobody's fault.
    moved = {fit: each - (of_references[fit] - known).mean() for fit, each in errors.items()}
    return {
        "cell": name,
        "device": cell.device,
        "base": cell.quantisation,
        "phase": cell.phase,
        "mode": cell.mode,
        "rows": len(training),
        "tested": len(truth),
        "references": len(planned.references),
        "chosen": chosen,
        "mae_points": _points(off),
        "mae_points_interval": _interval(off),
        "mae_points_relevelled": _points(np.abs(relevelled_ratios - truth)),
        "mae_points_baselines_interval": {fit: _interval(np.abs(each)) for fit, each in errors.items()},
        "mae_points_baselines": {fit: _points(np.abs(each)) for fit, each in errors.items()},
        "retest_points": _points(retest),
        "retest_points_interval": _interval(retest),
        "tau": _tau(ratios, truth),
        "retest_tau": _tau(again, truth),
        "p_not_better": _not_better(errors, chosen),
        "p_not_better_moved": _not_better(moved, chosen),
        "mae_points_moved": {fit: _points(np.abs(each)) for fit, each in moved.items()},
        "covered": int(relevelled_inside.sum()),
        "covered_as_fitted": int(inside.sum()),
        "half_width_points": relevelled_half_width,
        "half_width_points_as_fitted": half_width,
        "mae_points_by_rows": table,
        "to_reach": {"points": LEARNED * _points(off), **to_reach(LEARNED * _points(off), table)},
        "overhead_points": [100 * float(bound) for bound in (truth.min() - 1, truth.max() - 1)],
    }


def by_rows(
    planned: Plan, first: Mapping[Workload, Measurement], second: Mapping[Workload, Measurement]
) -> list[dict[str, float]]:
    """Error after fewer rows, and the device's seconds for them.

    `design` takes the first of the design, `telling` goes on from its beginning as `adaptare profile --until-error`
    does, and `random` draws from those that are tested; all are judged by what is left of these.
    """
    telling, found = _telling(planned), []
    for rows in FEWER:
        off: dict[str, list[float]] = {"design": [], "telling": [], "random": []}
        chosen = {"design": planned.training[:rows], "telling": telling[:rows]}
        fitted = {name: LatencyPredictor().fit([first[each] for each in some]) for name, some in chosen.items()}
        for seed in range(DRAWS):
            order = np.random.default_rng(seed).permutation(TESTED)
            drawn, rest = ([planned.tested[index] for index in some] for some in (order[:rows], order[rows:]))
            truth = np.array([second[each].ratio.middle for each in rest])
            by_chance = LatencyPredictor().fit([first[each] for each in drawn])
            for name, predictor in {**fitted, "random": by_chance}.items():
                off[name].append(_points(np.abs(_answers(predictor, rest, truth)[0] - truth)))
        seconds = {f"{name}_s": _device_s([first[each] for each in some]) for name, some in chosen.items()}
        seconds["random_s"] = _device_s([first[each] for each in planned.tested]) * rows / TESTED
        found.append({"rows": rows, **{name: float(np.mean(each)) for name, each in off.items()}, **seconds})
    return found


def to_reach(points: float, table: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float] | None]:
    """Fewest rows of `by_rows`, and seconds, from which on the error stays within so many points."""
    found: dict[str, dict[str, float] | None] = {}
    for name in ("design", "telling", "random"):
        within = [all(later[name] <= points for later in table[number:]) for number in range(len(table))]
        row = table[within.index(True)] if any(within) else None
        found[name] = {"rows": row["rows"], "seconds": row[f"{name}_s"]} if row else None
    return found


def _telling(planned: Plan) -> list[Workload]:
    """The training rows: the first of the design, and then batches of the most telling ones."""
    features = FeatureSet(planned.training[0], planned.training[0].scope_sites)
    X = features.matrix(codes_of([each.adapter for each in planned.training], features.sites))
    taken = list(range(FEWER[0]))
    while len(taken) < TRAINING:
        left = np.setdiff1d(np.arange(TRAINING), taken)
        taken += left[next_rows(X[taken], X[left], min(BATCH, len(left)))].tolist()
    return [planned.training[index] for index in taken]


def _device_s(measurements: Sequence[Measurement]) -> float:
    """What measuring took, without the reference that all share: loading, warming up and every call, seconds."""
    return sum(
        each.load_s * len(np.unique(each.openings))
        + sum(each.warmup_s)
        + sum(visit.touch_s + sum(visit.samples_s) for visit in each.visits)
        for each in measurements
    )


def _answers(predictor: LatencyPredictor, tested: Sequence[Workload], truth: Array) -> tuple[Array, Array, float]:
    """Predicted ratios, whether each interval held the measured one, and their median half width in points."""
    said = predictor.predict_configs([each.adapter for each in tested])
    mean, lower, upper = (ends / predictor.model.reference_s for ends in (said.mean_s, said.lower_s, said.upper_s))
    return mean, (lower <= truth) & (truth <= upper), 100 * float(np.median((upper - lower) / 2))


def _others(
    predictor: LatencyPredictor, training: Sequence[Measurement], tested: Sequence[Workload]
) -> dict[str, Array]:
    """What the fits that were not chosen, and the regressors beside them, say of the same adapters."""
    features = predictor.model.features
    X, asked = (
        features.matrix(codes_of([each.adapter for each in workloads], features.sites))
        for workloads in ([each.workload for each in training], tested)
    )
    y = np.array([each.ratio.middle for each in training])
    return {name: clone(each).fit(X, y).predict(asked) for name, each in {**CANDIDATES, **BASELINES}.items()}


def _not_better(errors: Mapping[str, Array], chosen: str) -> dict[str, float]:
    """One-sided paired t-test: how likely so large a lead over a simpler fit is by chance."""
    off, others = np.abs(errors[chosen]), [name for name in SIMPLER if name != chosen]
    return {name: float(stats.ttest_rel(off, np.abs(errors[name]), alternative="less").pvalue) for name in others}


def _points(errors: Array) -> float:
    return 100 * float(errors.mean())


def _interval(errors: Array) -> list[float]:
    """95 % bootstrap of the mean, in points."""
    drawn = np.random.default_rng(0).integers(0, len(errors), (10_000, len(errors)))
    low, high = np.percentile(100 * errors[drawn].mean(axis=1), [2.5, 97.5])
    return [float(low), float(high)]


def _tau(ours: Array, theirs: Array) -> float:
    return float(stats.kendalltau(ours, theirs).statistic)


def meets(row: Mapping[str, Any]) -> dict[str, bool]:
    """The goals of a cell."""
    return {
        "mae": row["mae_points"] <= 1.3 * row["retest_points"],
        "better_or_ships": row["chosen"] in SIMPLER or all(p <= 0.05 for p in row["p_not_better"].values()),
        "tau": row["tau"] >= 0.95 * row["retest_tau"],
    }


def result_of(cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Cells with what they meet, and the coverage of all of them."""
    result: dict[str, Any] = {"cells": [{**each, "meets": meets(each)} for each in cells]}
    tested = sum(each["tested"] for each in cells)
    for key in ("covered", "covered_as_fitted"):
        covered = stats.binomtest(sum(each[key] for each in cells), tested)
        low, high = covered.proportion_ci(0.95, method="wilson")
        result[f"pooled_{key.replace('covered', 'coverage')}_interval"] = [float(low), float(high)]
    low, high = result["pooled_coverage_interval"]
    shared = {key: exact_coverage(cells, key) for key in ("references", "rows")}
    return {**result, "pooled_coverage_if_exact": shared, "meets_coverage": low <= LEVEL <= high}


def exact_coverage(cells: Sequence[dict[str, Any]], key: str) -> list[float]:
    """Where 95 % of pooled coverages lie if intervals are exact: rows of a cell share what its width was learned from.

    Coverage given n residuals is distributed as Beta((n + 1) level, (n + 1) (1 - level)): Vovk 2012, "Conditional
    validity of inductive conformal predictors". Counting rows as if each had an interval of its own is too narrow.
    """
    rng, covered = np.random.default_rng(0), np.zeros(100_000)
    for each in cells:
        known = each[key] + 1
        covered += rng.binomial(each["tested"], rng.beta(LEVEL * known, (1 - LEVEL) * known, len(covered)))
    return [float(end) for end in np.percentile(covered / sum(each["tested"] for each in cells), [2.5, 97.5])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", nargs="+", choices=CELLS, metavar="CELL", help=f"of {', '.join(CELLS)}")
    parser.add_argument("--kept", type=Path, help="folder that keeps sessions; those in it are not measured again")
    parser.add_argument("--session", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.session:
        measure(*options.session, options.kept)
        return
    with tempfile.TemporaryDirectory() as place:
        folder = options.kept or Path(place)
        folder.mkdir(parents=True, exist_ok=True)
        names = options.only or list(CELLS)
        first = {name: measured(name, "first", folder) for name in names}
        cells = []
        for name in names:
            cells.append(judge(name, first[name], measured(name, "second", folder, after=first[name])))
    result = result_of(cells)
    if options.json:
        print(json.dumps(result))
        return
    for row in result["cells"]:
        print(row.pop("cell"))
        for key, value in row.items():
            print(f"  {key:28} {value}")
    for key in list(result)[1:]:
        print(f"{key:30} {result[key]}")


if __name__ == "__main__":
    main()
