"""Whether the numbers of the profiler repeat, and whether its intervals hold what they promise.

python benchmarks/profiling.py [--json] [--only KEY ...]

Simulated keys know the truth. Measured ones run small ONNX programs on this machine: those that are about noise beside
a background load that is started and stopped here, the others on the machine as it is. Keys that the goals do not name
show a design that fails, or what the machine does by itself. A key that cannot be found here is null, misses its goal,
and another one says why.
"""

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import profiling_models as models
import profiling_native as native
import profiling_protocols as protocols
import profiling_real as real
import profiling_simulated as simulated


@dataclass(frozen=True)
class Part:
    """Some keys that are found together.

    Args:
        find: Gives their values.
        goals: Key -> what it must be, unless it is null.
        noisy: Whether it runs beside the background load.
    """

    find: Callable[[], dict[str, Any]]
    goals: dict[str, Callable[[Any], bool]]
    noisy: bool = False


def _most(limit: float) -> Callable[[float], bool]:
    return lambda value: value <= limit


def _least(limit: float) -> Callable[[float], bool]:
    return lambda value: value >= limit


def _near(value: float, by: float) -> Callable[[float], bool]:
    return lambda found: abs(found - value) <= by


PARTS = (
    Part(simulated.kinds_of_warm_up, {"warmup_class_accuracy": _least(0.95), "flat_nothing_dropped": _least(0.95)}),
    Part(simulated.alarms, {"drift_alarm": _least(0.95), "false_alarm": _most(0.02)}),
    Part(simulated.remembering_noise, {"interval_coverage_ar1": _least(0.9)}),
    Part(simulated.same_program_twice, {"aa_false_positive_p": _least(0.01), "aa_one_opening_p": _most(0.01)}),
    Part(simulated.true_difference, {"aa_coverage": _least(0.92)}),
    Part(real.harness, {"harness_overhead_us": _most(10)}),
    Part(real.other_timers, {"timeit_ratio_timeit": _near(1, 0.01), "timeit_ratio_torch": _near(1, 0.01)}),
    Part(real.visit_bias, {"visit_bias": _most(0.01)}),
    Part(real.order_bias, {"order_bias_points": _most(1)}),
    Part(
        native.native,
        {
            "native_ratio_small": _near(1, 0.02),
            "native_ratio_whole": _near(1, 0.03),
            "native_ratio_whole_lower": _least(0.97),
            "native_ratio_whole_upper": _most(1.03),
        },
    ),
    Part(real.same_file_twice, {"aa_false_positive_real_p": _least(0.01)}),
    Part(models.composition, {"composition_error": _most(0.05)}),
    Part(models.stub_line, {"stub_error": _most(0.03)}),
    Part(models.campaign, {"configs20_s": _most(300)}),
    Part(
        protocols.short_runs,
        {
            "retest_abs_median": _most(0.005),
            "retest_abs_p90": _most(0.02),
            "retest_latency_p90": _most(0.03),
            "retest_latency_max": _most(0.05),
            "fixed_protocols": lambda rows: all(row["over_ours"] >= 10 for row in rows),
        },
        noisy=True,
    ),
    Part(
        real.detect,
        {"detect_5pct": _least(0.95), "detect_5pct_median_s": _most(5), "accuracy_5pct": _least(0.9)},
        noisy=True,
    ),
)


def _shown(value: Any) -> str:
    if isinstance(value, float | int):
        return f"{value:.4g}"
    if isinstance(value, list):
        return "".join(f"\n  {row}" for row in value) + "\n "
    return str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [key for part in PARTS for key in part.goals]
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", nargs="+", choices=known, metavar="KEY", help=f"of {', '.join(known)}")
    options = parser.parse_args()

    result: dict[str, Any] = {}
    meets: dict[str, bool] = {}
    for part in PARTS:
        if options.only and not set(options.only) & set(part.goals):
            continue
        started = time.monotonic()
        with real.background_load() if part.noisy else contextlib.nullcontext():
            found = part.find()
        result |= found
        meets |= {key: found[key] is not None and bool(goal(found[key])) for key, goal in part.goals.items()}
        for key, value in found.items():
            verdict = {True: "met", False: "NOT MET", None: ""}[meets.get(key)]
            print(f"{key:36} {_shown(value)} {verdict}", file=sys.stderr if options.json else sys.stdout, flush=True)
        print(f"  {time.monotonic() - started:.0f} s", file=sys.stderr)
    if options.json:
        print(json.dumps({**result, "meets": meets}))


if __name__ == "__main__":
    main()
