"""Seconds that a narrow interval takes: half-width of an overhead against time, beside optimum-benchmark's spread.

python benchmarks/seconds_per_digit.py [--json] [--device int4=30 ...] [--runs 1] [--other PYTHONPATH]
    [--optimum-python PATH]

An adapter of rank 16 on all linears of SmolLM2-135M in decode, in every mode that `adaptare overhead` measures, on one
thread. Each device is measured for the given seconds, as the command does, in a process of its own. `widths`: seconds
since the first worker was started, and half-width of the 95 % interval in points, after each opening. `modes`: standard
deviation of the logarithm of the ratio to the base between openings, and between rounds of one opening; the same of the
base's seconds (`base`). `needed_s` extrapolates to half-widths of so many points, with the deviation `sd_expected`:
that of loadings and rounds, the same for all releases, at the number of rounds of this one.

`--other` is the PYTHONPATH of another release; both take turns. `spread_ratio` is the standard deviation between
openings over that of the other release, with the 95 % interval of an F distribution, and the change of the mean.

`--optimum-python` is the interpreter of an environment with optimum-benchmark 0.6, which needs transformers 4:

    python -m venv FOLDER
    FOLDER/bin/pip install optimum-benchmark "transformers>=4.57,<5" torch peft "setuptools<81"

It measures the base, then the adapter, in PyTorch, each in half of the seconds of that device. Starting and its warm-up
are part of that; where they alone take longer, it measures for a second and its time is longer too.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from stock_process import HERE, MODEL, RANK, conditions, say

from adaptare.profiler import Configuration, Measurement, Workload, open_model, precise_within
from adaptare.profiler.measuring import Session
from adaptare.workflows.target import opened

DEVICES = {"torch": "torch-cpu:threads=1", "fp32": "ort-cpu:threads=1", "int4": "ort-cpu:int4,threads=1"}
SECONDS = {"torch": 50.0, "fp32": 40.0, "int4": 25.0}
SHOWN = "swappable"
# So narrow that the time always ends the measurement.
NEVER = 1e-6
POINTS = (3.0, 2.0, 1.0)
RELEASES = ("this", "other")

Array = NDArray[np.float64]
Answers = Sequence[Mapping[str, Any]]
# Variance of a median over that of a mean, for normal samples.
OF_MEDIAN = np.pi / 2


def main() -> None:
    options = parser().parse_args()
    if options.one:
        name, limit, seed = options.one
        print(json.dumps(measured(name, float(limit), int(seed))))
        return
    seconds = dict(options.device or SECONDS.items())
    releases = RELEASES if options.other else RELEASES[:1]
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for run, name in itertools.product(range(options.runs), seconds):
        # Pairs in either order, one after the other, so that a drift of the machine falls on both.
        for release in releases[:: 1 if (run + list(seconds).index(name) + options.turn) % 2 else -1]:
            path = {} if release == "this" else {"PYTHONPATH": str(options.other)}
            answer = _answer(sys.executable, __file__, "--one", name, seconds[name], 2 * run + options.turn, path=path)
            found.setdefault((name, release), []).append(answer)
            say(f"{name}, {release}: {answer['widths'][-1]}")
    result: dict[str, Any] = {
        **conditions(1),
        "devices": [
            {
                "device": name,
                "seconds": seconds[name],
                "release": release,
                **summary(answers, [found[name, each] for each in releases]),
            }
            for (name, release), answers in found.items()
        ],
        "spread_ratio": [
            {"device": name, **spread_ratio(found[name, "this"], found[name, "other"])}
            for name in seconds
            if options.other
        ],
    }
    if options.optimum_python:
        optimum = Optimum(options.optimum_python)
        answers = [optimum.answer(seconds["torch"]) for _ in range(options.optimum_runs)]
        spread = 100 * float(np.std([each["overhead"] for each in answers], ddof=1))
        result["optimum"] = {"versions": optimum.versions, "sd_points": spread, "answers": answers}
    print(json.dumps(result) if options.json else "\n".join(lines(result)))


def parser() -> argparse.ArgumentParser:
    """Options of the command line."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--json", action="store_true")
    found.add_argument(
        "--device", type=device_and_seconds, nargs="+", metavar="NAME=S", help=f"of {', '.join(DEVICES)}"
    )
    found.add_argument("--runs", type=int, default=1)
    found.add_argument("--turn", type=int, default=0, help="1: the other order of releases, and other seeds")
    found.add_argument("--other", help="PYTHONPATH of another release")
    found.add_argument("--optimum-python", type=Path)
    found.add_argument("--optimum-runs", type=int, default=4)
    found.add_argument("--one", nargs=3, metavar=("NAME", "SECONDS", "SEED"), help=argparse.SUPPRESS)
    return found


def device_and_seconds(text: str) -> tuple[str, float]:
    """`int4=30`: a device and its seconds."""
    name, _, seconds = text.partition("=")
    if name not in DEVICES:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(DEVICES)}")
    return name, float(seconds or SECONDS[name])


def measured(name: str, seconds: float, seed: int) -> dict[str, Any]:
    """Widths after each opening, and logarithms of the ratios of each opening and round."""
    target, shape, programs = opened(MODEL, DEVICES[name], None, cache=None)
    base = Workload(shape, phase="decode", **target.weights)
    adapted = base.with_configuration(Configuration.uniform(shape, RANK))
    workloads = [replace(adapted, mode=mode) for mode in programs.modes(adapted)]
    session, started = Session(target.device, precise_within(NEVER, seconds), seed, programs=programs), time.monotonic()
    widths = []

    def seen(rows: Sequence[Measurement]) -> None:
        [row] = [row for row in rows if row.workload.mode == SHOWN]
        if row.opening_count() > 1:
            ratio = row.ratio
            widths.append([time.monotonic() - started, 50 * (ratio.upper - ratio.lower)])

    [rows] = session.groups(workloads, reference=base, seen=seen)
    if failures := [row.failure for row in rows if row.failure]:
        raise SystemExit(f"{name}: {failures[0]}")
    ratios = {row.workload.mode: by_opening(np.log(row.ratios), row.openings) for row in rows}
    base_s = np.log([visit.median_s for visit in rows[0].reference_visits])
    return {"widths": widths, "logs": {**ratios, "base": by_opening(base_s, rows[0].openings)}}


def by_opening(values: Array, openings: NDArray[np.int64]) -> list[list[float]]:
    """Values of the rounds of each opening."""
    return [np.round(values[openings == each], 5).tolist() for each in np.unique(openings)]


def summary(answers: Answers, of_all: Sequence[Answers]) -> dict[str, Any]:
    """Measurements of one device by one release, pooled.

    Args:
        of_all: Those of all releases, whose spread is the same but for the number of rounds.
    """
    openings = [1 + len(each["widths"]) for each in answers]
    opening_s = float(np.mean([each["widths"][-1][0] / count for each, count in zip(answers, openings, strict=True)]))
    modes = {mode: spread_of([each["logs"][mode] for each in answers]) for mode in answers[0]["logs"]}
    middle = float(np.exp(modes[SHOWN]["mean"]))
    spreads = [spread_of([each["logs"][SHOWN] for each in some]) for some in of_all]
    within = np.mean([each["sd_round"] ** 2 for each in spreads])
    loads = np.mean([each["sd_opening"] ** 2 - OF_MEDIAN * within / each["rounds"] for each in spreads])
    expected = float(np.sqrt(max(0.0, loads) + OF_MEDIAN * within / modes[SHOWN]["rounds"]))
    needed = {f"{points:g}": opening_s * openings_for(points / 100 / middle, expected) for points in POINTS}
    return {
        "openings": openings,
        "opening_s": opening_s,
        "modes": modes,
        "sd_expected": expected,
        "needed_s": needed,
        "widths": [each["widths"] for each in answers],
    }


def spread_of(runs: Sequence[Sequence[Sequence[float]]]) -> dict[str, float]:
    """Standard deviations between openings of one run, and between rounds of one opening."""
    medians = [np.array([np.median(rounds) for rounds in run]) for run in runs]
    freedom = sum(len(each) - 1 for each in medians)
    between = float(np.sqrt(sum(((each - each.mean()) ** 2).sum() for each in medians) / freedom))
    within = [np.var(rounds, ddof=1) for run in runs for rounds in run]
    mean = float(np.mean(np.concatenate(medians)))
    rounds = float(np.median([len(rounds) for run in runs for rounds in run]))
    own = {"sd_opening": between, "sd_round": float(np.sqrt(np.mean(within)))}
    return {"mean": mean, **own, "rounds": rounds, "freedom": freedom}


def openings_for(half_width: float, deviation: float) -> int:
    """Openings at which the half-width of Student's interval of a logarithm is so small, at least four."""
    count = 4
    while 1.09 * stats.t.ppf(0.975, count - 1) * deviation / np.sqrt(count) > half_width:
        count += 1
    return count


def spread_ratio(ours: Answers, theirs: Answers) -> dict[str, Any]:
    """Ratio of the standard deviations between openings for each mode, with 95 % intervals, and of the mean ratios."""
    found = {}
    for mode in ours[0]["logs"]:
        own, other = (spread_of([each["logs"][mode] for each in answers]) for answers in (ours, theirs))
        ratio, freedom = own["sd_opening"] / other["sd_opening"], (own["freedom"], other["freedom"])
        ends = [ratio / float(np.sqrt(stats.f.ppf(level, *freedom))) for level in (0.975, 0.025)]
        error = np.hypot(*(each["sd_opening"] / np.sqrt(each["freedom"] + 1) for each in (own, other)))
        moved, half = 100 * (own["mean"] - other["mean"]), 100 * float(stats.t.ppf(0.975, sum(freedom)) * error)
        found[mode] = {"sd": [ends[0], ratio, ends[1]], "mean_moved_percent": [moved - half, moved, moved + half]}
    return found


class Optimum:
    """optimum-benchmark in its own environment.

    Args:
        python: Its interpreter.
    """

    def __init__(self, python: Path) -> None:
        self._python = python
        self._model = open_model(MODEL).weights_folder().resolve()
        started = time.monotonic()
        first = self._run(0, 1)
        # Of starting and warm-up, in each process so far.
        self._fixed_s = [time.monotonic() - started - 1]
        self.versions = first["versions"]

    def answer(self, wall_s: float) -> dict[str, Any]:
        """Overhead from a base and an adapter in so many seconds together, if starting leaves any."""
        duration = max(1, round(wall_s / 2 - float(np.median(self._fixed_s))))
        started = time.monotonic()
        base, adapter = (self._run(rank, duration) for rank in (0, RANK))
        own_s = time.monotonic() - started
        self._fixed_s.append(own_s / 2 - duration)
        return {
            "wall_s": own_s,
            "overhead": adapter["decode_s"] / base["decode_s"] - 1,
            "base_s": base["decode_s"],
            "duration_s": duration,
        }

    def _run(self, rank: int, duration: int) -> dict[str, Any]:
        words = [HERE / "optimum_process.py", self._model, "--rank", rank, "--duration", duration]
        # What leads to this environment's packages must not lead there.
        return _answer(self._python, *words, path={"PYTHONPATH": ""})


def _answer(*words: object, path: Mapping[str, str]) -> dict[str, Any]:
    """JSON that a process prints last."""
    command = list(map(str, words))
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **path})
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def lines(result: Mapping[str, Any]) -> list[str]:
    """For people."""
    found = []
    for row in result["devices"]:
        needed = ", ".join(f"±{points} points {seconds:.0f} s" for points, seconds in row["needed_s"].items())
        spread = 100 * row["modes"][SHOWN]["sd_opening"]
        found.append(
            f"{row['device']:6} {row['release']:6} {sum(row['openings'])} openings of {row['opening_s']:.1f} s; "
            f"sd between openings {spread:.1f} %; {needed}"
        )
    for row in result["spread_ratio"]:
        shown = ", ".join(f"{mode} {row[mode]['sd'][1]:.2f}" for mode in row if mode != "device")
        found.append(f"{row['device']:6} sd over that of the other release: {shown}")
    if "optimum" in result:
        found.append(f"optimum-benchmark: sd {result['optimum']['sd_points']:.1f} points")
    return found


if __name__ == "__main__":
    main()
