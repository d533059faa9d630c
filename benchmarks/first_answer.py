"""Seconds against half-width of `adaptare overhead` itself, and spread of its answers, beside optimum-benchmark.

python benchmarks/first_answer.py [--json] [--limits 15 30 60 120] [--runs 8] [--device torch-cpu:threads=1]
    [--first-intervals N] [--optimum-python PATH]

The command is run as a user runs it, for an adapter of rank 16 on all linears of SmolLM2-135M in decode, with a new
store and another seed in each run. Limits are `--seconds`; how long the command took is measured. For each limit: the
spread of its answers over the runs, their half-widths, and how many of their intervals hold the mean of all answers of
all limits. Limits take turns in random order, so that a drift of the machine falls on all of them.

`--first-intervals` runs the command in a terminal as well, until an interval is on the screen, five minutes at most.

`--optimum-python` is the interpreter of an environment with optimum-benchmark 0.6, which needs transformers 4:

    python -m venv FOLDER
    FOLDER/bin/pip install optimum-benchmark "transformers>=4.57,<5" torch peft "setuptools<81"

It measures the base, then the adapter, each in half of the time that the command took at that limit; starting and its
warm-up are part of that, and where they alone take longer, it measures for a second and its time is longer too.
"""

import argparse
import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from stock_process import HERE, LENGTH, MODEL, RANK, conditions, say

from adaptare.profiler import open_model

LIMITS_S = (15.0, 30.0, 60.0, 120.0)
# An interval in the table of the command, such as `[+1.2%, `.
INTERVAL = re.compile(rb"\[[+-]\d+\.\d%,")
PATIENCE_S = 300.0
COLUMNS = "160"
MODE = "swappable"


def main() -> None:
    options = parser().parse_args()
    rng = np.random.default_rng(0)
    firsts = [first_interval_s(options.device, seed) for seed in range(options.first_intervals)]
    ours: dict[float, list[dict[str, Any]]] = {limit: [] for limit in options.limits}
    theirs: dict[float, list[dict[str, Any]]] = {limit: [] for limit in options.limits}
    optimum = Optimum(options.optimum_python) if options.optimum_python else None
    for seed in range(options.runs):
        for limit in rng.permutation(options.limits):
            found = answer(options.device, float(limit), seed)
            ours[limit].append(found)
            say(f"{limit:g} s: {found}")
            if optimum:
                theirs[limit].append(optimum.answer(found["wall_s"]))
                say(f"  optimum-benchmark: {theirs[limit][-1]}")
    result = {
        **conditions(1),
        "device": options.device,
        "mode": MODE,
        "first_interval_s": firsts,
        "limits": summaries(ours),
        "optimum": summaries(theirs) if optimum else [],
        "optimum_versions": optimum.versions if optimum else {},
    }
    print(json.dumps(result) if options.json else "\n".join(lines(result)))


def parser() -> argparse.ArgumentParser:
    """Options of the command line."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--json", action="store_true")
    found.add_argument("--limits", type=float, nargs="+", default=list(LIMITS_S), help="what --seconds is given")
    found.add_argument("--runs", type=int, default=8)
    found.add_argument("--device", default="torch-cpu:threads=1")
    found.add_argument("--first-intervals", type=int, default=0, metavar="N", help="runs that end there")
    found.add_argument("--optimum-python", type=Path)
    return found


def command(device: str, seed: int, store: str) -> list[str]:
    """What a user types, for one adapter and phase."""
    words = ["overhead", MODEL, "--rank", str(RANK), "--device", device, "-p", "0", "-d", str(LENGTH)]
    return [sys.executable, "-m", "adaptare", *words, "--seed", str(seed), "--store", store]


def answer(device: str, limit_s: float, seed: int) -> dict[str, Any]:
    """Overhead, its interval, and how long the command took."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        words = [*command(device, seed, f"{place}/measured.db"), "--seconds", f"{limit_s:g}", "--json"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    wall_s = time.monotonic() - started
    printed = json.loads(done.stdout) if done.stdout.strip() else {"error": done.stderr[-2000:]}
    if "error" in printed:
        raise RuntimeError(f"{' '.join(words)}: {printed['error']}")
    (row,) = (row for row in printed["rows"] if row["mode"] == MODE)
    share, kept = row["over_base"], ("base_s", "openings", "rounds", "stopped_by")
    overhead = {"overhead": share["middle"], "overhead_lower": share["lower"], "overhead_upper": share["upper"]}
    return {"wall_s": wall_s, **overhead, **{name: row[name] for name in kept}}


def first_interval_s(device: str, seed: int) -> float | None:
    """Seconds until the command shows an interval in a terminal; it is interrupted then. None if it shows none."""
    own, its = pty.openpty()
    found_s, seen, started = None, b"", time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        words = command(device, seed, f"{place}/measured.db")
        environment = {**os.environ, "COLUMNS": COLUMNS, "TERM": "xterm", "NO_COLOR": "1"}
        process = subprocess.Popen(words, stdin=its, stdout=its, stderr=its, env=environment, start_new_session=True)
        os.close(its)
        # Reads to the end, as a full terminal would hold the process.
        for part in written(own, time.monotonic() + PATIENCE_S):
            seen = (seen + part)[-65536:]
            if found_s is None and INTERVAL.search(seen):
                found_s = time.monotonic() - started
                process.send_signal(signal.SIGINT)
        process.kill()
        process.wait()
        os.close(own)
    say(f"first interval after {found_s} s")
    return found_s


def written(terminal: int, end: float) -> Iterator[bytes]:
    """All that a process writes to a terminal until it ends, or until a time on the monotonic clock."""
    with contextlib.suppress(OSError):  # nobody writes to it any more
        while time.monotonic() < end:
            if select.select([terminal], [], [], 1.0)[0]:
                if not (part := os.read(terminal, 65536)):
                    return
                yield part


class Optimum:
    """optimum-benchmark in its own environment.

    Args:
        python: Its interpreter.
    """

    def __init__(self, python: Path) -> None:
        self._python = python
        self._model = open_model(MODEL).weights_folder().resolve()
        started = time.monotonic()
        first = [self._run(rank, 1) for rank in (0, RANK)]
        # Of starting and warm-up, in each process so far.
        self._fixed_s = [(time.monotonic() - started) / 2 - 1]
        self.versions = first[0]["versions"]

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
        script = str(HERE / "optimum_process.py")
        words = [str(self._python), script, str(self._model), "--rank", str(rank), "--duration", str(duration)]
        # What leads to this environment's packages must not lead there.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}: {done.stderr[-2000:]}")
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found


def summaries(answers: dict[float, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """A row for each limit: spread of the answers, and their half-widths where they have any."""
    mean_of_all = float(np.mean([each["overhead"] for own in answers.values() for each in own] or [np.nan]))
    return [summary(limit, own, mean_of_all) for limit, own in answers.items() if own]


def summary(limit_s: float, own: Sequence[dict[str, Any]], mean_of_all: float) -> dict[str, Any]:
    """Answers of one limit."""
    overheads = np.array([each["overhead"] for each in own])
    found = {
        "limit_s": limit_s,
        "runs": len(own),
        "wall_s": float(np.median([each["wall_s"] for each in own])),
        "overhead_mean": float(overheads.mean()),
        "overhead_sd": float(overheads.std(ddof=1)) if len(own) > 1 else None,
        "overhead_range": float(np.ptp(overheads)),
        "answers": list(own),
    }
    if "overhead_lower" not in own[0]:
        return found
    ends = [(each["overhead_lower"], each["overhead_upper"]) for each in own]
    return found | {
        "half_width_mean": float(np.mean([(upper - lower) / 2 for lower, upper in ends])),
        "holding_mean_of_all": sum(lower <= mean_of_all <= upper for lower, upper in ends),
    }


def lines(result: dict[str, Any]) -> list[str]:
    """For people."""
    found = []
    for name, rows in (("adaptare", result["limits"]), ("optimum-benchmark", result["optimum"])):
        for row in rows:
            spread = "" if row["overhead_sd"] is None else f", sd {100 * row['overhead_sd']:.2f} points"
            line = (
                f"{name:18} {row['limit_s']:g} s, took {row['wall_s']:.0f} s: {row['overhead_mean']:+.1%}{spread}, "
                f"range {100 * row['overhead_range']:.2f} points"
            )
            if "half_width_mean" in row:
                line += (
                    f"; intervals ±{100 * row['half_width_mean']:.2f} points, {row['holding_mean_of_all']} of "
                    f"{row['runs']} hold the mean of all"
                )
            found.append(line)
    firsts = [f"{each:.1f}" if each is not None else "none" for each in result["first_interval_s"]]
    found += [f"first interval after {', '.join(firsts)} s"] if firsts else []
    versions = {**result["versions"], "optimum-benchmark's": result["optimum_versions"]}
    return [*found, f"{result['processor']}, {result['device']}, {versions}, {result['date']}"]


if __name__ == "__main__":
    main()
