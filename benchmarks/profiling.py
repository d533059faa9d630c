"""Figures of the profiler that a user relies on: coverage of its intervals, differences it finds, errors it makes.

python benchmarks/profiling.py [--json] [--only KEY ...]

Simulated keys know the truth. Measured ones run small ONNX programs and SmolLM2-135M on this machine, some beside a
background load that is started and stopped here. Each figure comes with the number of cases behind it; none is left out
or repeated. Keys with a goal are gates; keys without one are reported with their spread, because the machine decides
them. All of it takes about a quarter of an hour on two cores.
"""

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import profiling_models as models
import profiling_native as native
import profiling_protocols as protocols
import profiling_real as real
import profiling_simulated as simulated
from profiling_figures import Figure, Figures, Goal, at_least, at_most, share_like


@dataclass(frozen=True)
class Part:
    """Keys that are found together.

    Args:
        find: Gives their figures.
        goals: Of the keys that are gates.
        noisy: Runs beside the background load.
        reported: Keys without a goal that may be asked for by name.
    """

    find: Callable[[], Figures]
    goals: Mapping[str, Goal] = field(default_factory=dict)
    noisy: bool = False
    reported: tuple[str, ...] = ()


PARTS = (
    Part(simulated.kinds_of_warm_up, {"warmup_class_accuracy": at_least(0.95), "flat_nothing_dropped": at_least(0.95)}),
    Part(
        simulated.warm_up_below_autocorrelated_noise,
        {
            "autocorrelated_flat": at_least(0.95),
            "autocorrelated_nothing_dropped": at_least(0.95),
            "autocorrelated_warmup_found": at_least(0.95),
        },
    ),
    Part(simulated.alarms, {"drift_alarm": at_least(0.95), "false_alarm": at_most(0.02)}),
    Part(
        simulated.alarms_below_autocorrelated_noise,
        {"autocorrelated_drift_alarm": at_least(0.95), "autocorrelated_false_alarm": at_most(0.02)},
    ),
    Part(simulated.strongly_autocorrelated, reported=("strongly_autocorrelated",)),
    Part(simulated.within_one_opening, {"coverage_iid": at_least(0.92), "coverage_ar1": at_least(0.9)}),
    Part(simulated.true_difference, {"coverage_openings": at_least(0.92), "coverage_precise": at_least(0.92)}),
    Part(simulated.two_levels, {"two_levels_least_coverage": at_least(0.9)}, reported=("two_levels_coverage",)),
    Part(simulated.same_program_twice, {"aa_false_positive": share_like(0.05)}),
    Part(real.harness, {"harness_overhead_us": at_most(10)}),
    Part(real.order_bias, {"order_bias_points": at_most(1)}),
    Part(real.same_file_twice, {"aa_false_positive_real": share_like(0.05)}),
    Part(native.native, reported=("native_ratio",)),
    Part(models.composition, {"composition_error": at_most(0.05)}),
    Part(models.stubs, {"stub_overhead_error": at_most(0.03)}),
    Part(protocols.equal_time, noisy=True, reported=("overhead_at_equal_time", "retest_abs")),
    Part(real.detect, {"detect_5pct": at_least(0.95), "accuracy_5pct": at_least(0.9)}, noisy=True),
)


def _shown(value: Any) -> str:
    if isinstance(value, float | int):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(each)}" for name, each in value.items())
    if isinstance(value, list):
        return "".join(f"\n  {_shown(row)}" for row in value)
    return str(value)


def row(figure: Figure, goal: Goal | None) -> dict[str, Any]:
    """The figure as it stands in the JSON; `meets` is null where there is no goal."""
    return {
        "value": figure.value,
        "cases": figure.cases,
        "goal": goal.text if goal else None,
        "meets": goal.met(figure) if goal else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [key for part in PARTS for key in (*part.goals, *part.reported)]
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", nargs="+", choices=known, metavar="KEY", help=f"of {', '.join(known)}")
    options = parser.parse_args()

    result: dict[str, Any] = {}
    for part in PARTS:
        if options.only and not set(options.only) & {*part.goals, *part.reported}:
            continue
        started = time.monotonic()
        with real.background_load() if part.noisy else contextlib.nullcontext():
            found = part.find()
        for key, figure in found.items():
            result[key] = shown = row(figure, part.goals.get(key))
            verdict = {None: "", True: f"met: {shown['goal']}", False: f"NOT MET: {shown['goal']}"}[shown["meets"]]
            line = f"{key:34} {_shown(figure.value)}  ({figure.cases} cases) {verdict}"
            print(line, file=sys.stderr if options.json else sys.stdout, flush=True)
        print(f"  {time.monotonic() - started:.0f} s", file=sys.stderr)
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
