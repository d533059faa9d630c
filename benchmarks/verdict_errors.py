"""Error rates of the verdicts of `adaptare verify`, on simulated measurements whose truth is known.

python benchmarks/verdict_errors.py [--trials 2000] [--json FILE]

Every trial runs `verify_choices` with the default rule and repeats on measurements that are drawn. In each opening (a
fresh load of all programs, five seconds here) every program has an offset of its own. Winners share the base, so their
errors are correlated as in a real session.
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from stock_process import conditions

from adaptare.core.progress import SILENT, Feedback
from adaptare.devices import DeviceInfo
from adaptare.profiler import Configuration, Measurement, ModelShape, Programs, Workload, precise_within, programs_for
from adaptare.profiler.analysis.intervals import Interval, ratio_interval
from adaptare.profiler.measuring import PreciseWithin, Progress
from adaptare.profiler.store.measurement import Visit
from adaptare.search import read_budget
from adaptare.workflows.search.result import Choice, Place, SearchResult
from adaptare.workflows.verification import verify_choices

SHAPE = ModelShape("llama", 4, 32, 4, 2, 8, 48, 64, "{}")
DEVICE = DeviceInfo("simulated", "drawn", "simulated", 1)
PROGRAMS = programs_for(DEVICE)
PLACE = Place("drawn", "simulated", "none", "float32", "decode", 64)
BASE_S, BUDGET = 0.01, 0.10
OPENING_S, SECONDS, HALF_WIDTH, REPEATS = 5.0, 120.0, 0.005, 3
# Standard deviations of the offset of a program in an opening.
NOISES = (0.005, 0.03)
# Overheads of the winners.
CASES = {
    "one on the budget": (0.10,),
    "three on the budget": (0.10, 0.10, 0.10),
    "first 2 % below, two on the budget": (0.08, 0.10, 0.10),
    "one 2 % below": (0.08,),
    "three 2 % below": (0.08, 0.08, 0.08),
    "first 2 % above, second 2 % below": (0.12, 0.08),
}


@dataclass(frozen=True)
class Drawn:
    """Stands for a campaign.

    Args:
        overheads: True overhead of each configuration.
        noise: See `NOISES`.
        looks: Receives the number of openings of each measurement.
    """

    overheads: dict[Configuration, float]
    noise: float
    rng: np.random.Generator
    stop: PreciseWithin
    seed: int = 0
    recalibrate: bool = False
    feedback: Feedback = SILENT
    programs: Programs = PROGRAMS
    looks: list[int] = field(default_factory=list)

    def measure(self, workloads: Sequence[Workload], *, title: str) -> list[Measurement]:
        """Openings of one round each, until the rule ends them."""
        logs = self.noise * self.rng.standard_normal((1 + len(workloads), self.stop_after))
        seconds = BASE_S * np.exp(logs)
        seconds[1:] *= [[1 + self.overheads[each.configuration]] for each in workloads]
        for openings in range(1, self.stop_after + 1):
            numbers = np.arange(openings)
            ratios = seconds[1:, :openings] / seconds[0, :openings]
            widest = max(ratio_interval(row, numbers).half_width for row in ratios) if openings > 5 else math.inf
            at = Progress(0, 1, len(workloads), openings - 1, 1, 1.0, OPENING_S * openings, widest)
            if reason := self.stop.reason(at):
                break
        self.looks.append(openings)
        base, *visits = [
            tuple(Visit(number, number, 0.0, (each,)) for number, each in enumerate(row[:openings].tolist()))
            for row in seconds
        ]
        return [
            Measurement(each, DEVICE, each.base, BASE_S, "drawn", own, base, stopped_by=reason)
            for each, own in zip(workloads, visits, strict=True)
        ]

    @property
    def stop_after(self) -> int:
        """Most openings of a measurement."""
        return int(self.stop.seconds / OPENING_S) + 1


def trial(
    searched: SearchResult, overheads: dict[Configuration, float], noise: float, seed: int
) -> tuple[list[bool], list[int]]:
    """For each winner, whether it is said to meet the budget; and the openings of each look."""
    drawn = Drawn(overheads, noise, np.random.default_rng(seed), precise_within(HALF_WIDTH, SECONDS))
    found = verify_choices(searched, Workload(SHAPE), drawn, repeats=REPEATS)
    return [bool(each.measured and each.measured.verdict == "met") for each in found.winners], drawn.looks


def case(overheads: Sequence[float], noise: float, trials: int) -> dict[str, Any]:
    """Shares of wrong and of lost verdicts, and what they cost."""
    names = {f"winner {rank}": Configuration.uniform(SHAPE, rank) for rank in range(1, len(overheads) + 1)}
    predicted, budget = Interval(BASE_S, BASE_S, BASE_S), read_budget(f"overhead={100 * BUDGET:g}%")
    winners = tuple(Choice(name, each, "swappable", predicted) for name, each in names.items())
    searched = SearchResult(budget, BASE_S * (1 + BUDGET), BASE_S, 0.9, "predicted", PLACE, winners, (), {})
    truth = dict(zip(names.values(), overheads, strict=True))
    run = [trial(searched, truth, noise, seed) for seed in range(trials)]
    met = np.array([said for said, _ in run])
    beyond = np.array(overheads) >= BUDGET
    return {
        "noise": noise,
        "met_wrongly": float(met[:, beyond].mean()) if beyond.any() else None,
        "any_met_wrongly": float(met[:, beyond].any(axis=1).mean()) if beyond.any() else None,
        "lost": float(1 - met[:, ~beyond].mean()) if not beyond.all() else None,
        "looks": float(np.mean([len(looks) for _, looks in run])),
        "openings": float(np.mean([sum(looks) for _, looks in run])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    rows = []
    for name, overheads in CASES.items():
        for noise in NOISES:
            rows.append({"case": name, "trials": options.trials, **case(overheads, noise, options.trials)})
            shown = {key: value for key, value in rows[-1].items() if value is not None}
            print("  ".join(f"{key} {value:.3g}" if key != "case" else f"{value:36}" for key, value in shown.items()))
    if options.json:
        options.json.write_text(json.dumps({**conditions(1), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
