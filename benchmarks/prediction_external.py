"""How well few measured rows predict the others, on latencies that other people have measured and published.

python benchmarks/prediction_external.py [--data DIR] [--json] [--extra] [--only ID ...]

Every row says what ours is off, what the best of the baselines is off on the same draws, and what was the goal. What is
chosen is chosen inside the training rows. `lora-gemm`: MAPE on products of the shapes of LoRA, per device, from so many
rows; `-unseen`: from the other devices and 20 rows. `hwgpt`: MAPE on GPT-2-like decoders from 10 and 100 rows, one
row of the result for each scale. `hwgpt-session`: coverage of intervals of nominally 90 % on a measuring job that the
fit has not seen, re-levelled with 20 of its rows, and as fitted: with the spread between the three other jobs, and
without. `hat`: MAPE on translating transformers from 100 rows, against a Gaussian process with 200. With `--extra`,
`help-nb201` and `help-fbnet`: Spearman's rank correlation, the higher the better, on HELP's new devices, from 20 and 10
rows that are chosen out of 300 drawn ones, without their latencies.

The data is other people's and comes with none of this: `latency/` in the folder of `--data` has `lora_gemm.csv.gz` of
github.com/ai-dynamo/aiconfigurator, `hwgptbench_s.npz` and `_m.npz` of github.com/automl/HW-GPT-Bench, `hat/*.csv` of
github.com/mit-han-lab/hardware-aware-transformers, and `help_nasbench201.npz` and `help_fbnet.npz` of
github.com/HayeonLee/HELP, with the columns that `external_data.py` and `external_help.py` read.
"""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import external_data as data
import external_gemm as gemm
import external_help as helps
import numpy as np
from external_block_linear import BlockLinear
from external_corrected import Smooth
from external_few_shot import few_shot
from external_scores import Array, boosted, draws, mape, outcome
from scipy.stats import spearmanr
from sklearn.base import clone
from sklearn.linear_model import LinearRegression

from adaptare.predictor.intervals import conformal_half_width, session_spread

LEVEL = 0.9
REFERENCES = 20
# https://arxiv.org/abs/2106.08630, means over the devices; goals for the same number of rows.
PUBLISHED = {helps.CELLS: 0.932, helps.NETWORKS: 0.910}
PROCESS = "Gaussian process on what known devices take, the same rows"
HELP_GOALS = {helps.CELLS: 0.940, helps.NETWORKS: 0.965}


def gpts_few(folder: Path, train: int) -> Iterator[dict[str, Any]]:
    """Every scale and device: 80 % to draw from, 20 % to be judged by, split with seed 42."""
    for table in data.gpts(folder):
        order = np.random.RandomState(42).permutation(len(table.X))
        pool, test = order[: int(0.8 * len(order))], order[int(0.8 * len(order)) :]
        cells = []
        for device, latency in table.latencies.items():
            off: dict[str, list[float]] = {}
            for seen, _ in draws(len(table.X), train, test=0, pool=pool):
                predicted = {"ours": few_shot(table.columns).fit(table.X[seen], latency[seen]).predict(table.X[test])}
                for name, (features, regressor) in gpt_baselines(table).items():
                    predicted[name] = regressor.fit(features[seen], latency[seen]).predict(features[test])
                for name, each in predicted.items():
                    off.setdefault(name, []).append(mape(each, latency[test]))
            means = {name: float(np.mean(each)) for name, each in off.items()}
            cells.append(outcome(device, means.pop("ours"), means, 1.05))
        ratios = [cell["ours"] / cell["best"] for cell in cells]
        better = float(np.mean([ratio < 1 for ratio in ratios]))
        yield {
            "id": f"hwgpt-{train} {table.name.removeprefix('hwgptbench_')}",
            "ours": float(np.mean([cell["ours"] for cell in cells])),
            "best": float(np.mean([cell["best"] for cell in cells])),
            "best_name": "the best of three for each device",
            "goal": "each device at most 1.05 x the best, a third better",
            "worst_ratio": max(ratios),
            "better": better,
            "cells": cells,
            "meets": max(ratios) <= 1.05 and better >= 1 / 3,
        }


def gpt_baselines(table: data.Table) -> dict[str, tuple[Array, Any]]:
    """Features and regressor of each."""
    return {
        "linear per embedding width": (table.own["per width"], LinearRegression(fit_intercept=False)),
        "affine in FLOPs": (table.own["flops"][:, None], LinearRegression()),
        "boosting": (table.own["codes"], boosted()),
    }


def gpts_session(folder: Path) -> Iterator[dict[str, Any]]:
    """One of the four measuring jobs is left out and re-levelled by rows in the middle of 20 equal parts of it."""
    covered: dict[str, list[float]] = {}
    off: dict[str, list[float]] = {}
    as_fitted: dict[str, list[float]] = {"with spread between jobs": [], "without": []}
    for table in data.gpts(folder):
        per_job = len(table.X) // 4
        even = (np.arange(REFERENCES) + 0.5) * per_job / REFERENCES
        ends = np.linspace(0, per_job - 1, REFERENCES)
        references = {"ours": even.astype(int), "first and last included": ends.round().astype(int)}
        references["start of the session"] = np.arange(REFERENCES)
        for latency in table.latencies.values():
            for job in range(4):
                own = np.arange(job * per_job, (job + 1) * per_job)
                others = np.setdiff1d(np.arange(len(table.X)), own)
                fitted = clone(dict(few_shot(table.columns).candidates)["detailed"]).fit(
                    table.X[others], latency[others]
                )
                predicted, measured = fitted.predict(table.X[own]), latency[own]
                known = latency[others] / fitted.predict(table.X[others]) - 1
                spread = session_spread(known, (others // per_job).astype(str), others.astype(str))
                half_width = conformal_half_width(known, level=LEVEL)
                for name, width in zip(as_fitted, (spread.widened(half_width, LEVEL), half_width), strict=True):
                    as_fitted[name].append(float(np.mean(np.abs(measured / predicted - 1) <= width)))
                for name, rows in references.items():
                    relative = measured / (np.median(measured[rows] / predicted[rows]) * predicted) - 1
                    errors = np.abs(relative[np.setdiff1d(np.arange(per_job), rows)])
                    within = errors <= conformal_half_width(relative[rows], level=LEVEL)
                    covered.setdefault(name, []).append(float(np.mean(within)))
                    off.setdefault(name, []).append(float(100 * errors.mean()))
    at_least = {name: float(np.mean(np.array(each) >= 0.8)) for name, each in covered.items()}
    median = float(np.median(covered["ours"]))
    yield {
        "id": "hwgpt-session",
        "ours": at_least["ours"],
        "best": at_least["first and last included"],
        "best_name": "one offset and conformal width",
        "goal": "coverage >= 0.8 in as many cases, median 0.88 to 0.92",
        "cases": len(covered["ours"]),
        "median_coverage": median,
        "at_least_0.8": at_least,
        "median_coverages": {name: float(np.median(each)) for name, each in covered.items()},
        "mean_coverages_as_fitted": {name: float(np.mean(each)) for name, each in as_fitted.items()},
        "mape": {name: float(np.mean(each)) for name, each in off.items()},
        "meets": at_least["ours"] >= at_least["first and last included"] and 0.88 <= median <= 0.92,
    }


def hats_few(folder: Path) -> Iterator[dict[str, Any]]:
    """Each set: ours from 100 rows, a Gaussian process on the ten plain numbers from 200, the same 200 tested."""
    off: dict[str, list[float]] = {"ours": [], "Gaussian process with 200 rows": []}
    cells = {}
    for table in data.hats(folder):
        (latency,) = table.latencies.values()
        here: dict[str, list[float]] = {name: [] for name in off}
        for unseen, seen in draws(len(latency), 200, test=200):
            few = seen[:100]
            found = few_shot(table.columns).fit(table.X[few], latency[few]).predict(table.X[unseen])
            here["ours"].append(mape(found, latency[unseen]))
            plain = table.own["plain"]
            process = Smooth(nu=math.inf).fit(plain[seen], np.log(latency[seen]))
            here["Gaussian process with 200 rows"].append(mape(np.exp(process.predict(plain[unseen])), latency[unseen]))
        for name, each in here.items():
            off[name].append(float(np.mean(each)))
        cells[table.name] = {name: float(np.mean(each)) for name, each in here.items()}
    means = {name: float(np.mean(each)) for name, each in off.items()}
    yield outcome("hat-100", means.pop("ours"), means, 1.05, cells=cells)


def helps_few(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    """HELP's known and new devices and its tests; all rows of the new device are counted: 20 as HELP takes, and 10."""
    space = helps.space(folder, name)
    X, blocks = space.blocks(space.known)
    said = X[:, : sum(blocks[:2])]
    ours = BlockLinear(blocks, helps.taught(space))
    for rows in (20, 10):
        right: dict[str, list[list[float]]] = {}
        off: list[float] = []
        for drawn, _ in draws(helps.KNOWN, 300, test=0):
            planned = drawn[ours.rows_to_measure(X[drawn], rows)]
            found: dict[str, list[float]] = {}
            for device in helps.NEW[name]:
                latency = space.latencies[device]
                unseen = helps.tested(latency, name)
                predicted = {"ours": ours.fit(X[planned], latency[planned]).predict(X)}
                off.append(mape(predicted["ours"][unseen], latency[unseen]))
                predicted["rows at random"] = ours.fit(X[drawn[:rows]], latency[drawn[:rows]]).predict(X)
                process = Smooth(nu=math.inf).fit(said[planned], np.log(latency[planned]))
                predicted[PROCESS] = process.predict(said)
                for way, each in predicted.items():
                    own = spearmanr(each[unseen], latency[unseen]).statistic
                    found.setdefault(way, []).append(float(np.nan_to_num(own)))
            for way, each_found in found.items():
                right.setdefault(way, []).append(each_found)
        means = {way: float(np.mean(each)) for way, each in right.items()}
        own_means = np.mean(right["ours"], axis=1)
        half_width = 1.96 * float(own_means.std(ddof=1)) / math.sqrt(len(own_means))  # of the mean over draws
        baselines = {PROCESS: means[PROCESS], "HELP from 20, as published": PUBLISHED[name]}
        best_name = max(baselines, key=baselines.__getitem__)
        goal = HELP_GOALS[name] if rows == 20 else baselines[best_name]
        yield {
            "id": f"{name}-{rows}",
            "ours": means["ours"],
            "half_width": half_width,
            "best": baselines[best_name],
            "best_name": best_name,
            "goal": goal,
            "mape": float(np.mean(off)),
            "means": means,
            "devices": {way: np.mean(each, axis=0).tolist() for way, each in right.items()},
            "meets": means["ours"] > goal,
        }


ROWS: Mapping[str, Callable[[Path], Iterator[dict[str, Any]]]] = {
    "lora-gemm-50": lambda folder: gemm.gemms_few(folder, 50),
    "lora-gemm-200": lambda folder: gemm.gemms_few(folder, 200),
    "lora-gemm-unseen": gemm.gemms_unseen,
    "hwgpt-10": lambda folder: gpts_few(folder, 10),
    "hwgpt-100": lambda folder: gpts_few(folder, 100),
    "hwgpt-session": gpts_session,
    "hat-100": hats_few,
}
EXTRA: Mapping[str, Callable[[Path], Iterator[dict[str, Any]]]] = {
    helps.CELLS: lambda folder: helps_few(folder, helps.CELLS),
    helps.NETWORKS: lambda folder: helps_few(folder, helps.NETWORKS),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ADAPTARE_DATA", "../shared/data")))
    parser.add_argument("--extra", action="store_true", help=f"also {', '.join(EXTRA)}")
    every = {**ROWS, **EXTRA}
    parser.add_argument("--only", nargs="+", choices=list(every), metavar="ID", help=f"of {', '.join(every)}")
    options = parser.parse_args()
    folder = options.data / "latency"
    if not folder.is_dir():
        print(f"error: there is no folder {folder}; name the folder of the data with --data", file=sys.stderr)
        raise SystemExit(3)
    rows = []
    for name, find in every.items():
        if name not in (options.only or (every if options.extra else ROWS)):
            continue
        started = time.monotonic()
        for row in find(folder):
            rows.append(row)
            shown = {key: value for key, value in row.items() if not isinstance(value, dict | list)}
            print(
                shown,
                f"{time.monotonic() - started:.0f} s",
                file=sys.stderr if options.json else sys.stdout,
                flush=True,
            )
    if options.json:
        print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
