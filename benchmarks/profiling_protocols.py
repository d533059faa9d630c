"""The keys of profiling.py that compare repeated runs: of adaptare, and of fixed protocols in the same wall time.

Each protocol measures the same quantity, the overhead of a program with 5 % more work, again and again, in random
order beside the background load, and each run may take the same wall time, processes and loading included. Reported is
how much the runs of each differ; nothing is extrapolated. A fixed protocol, as optimum-benchmark, llama-bench and
onnxruntime_perf_test have it, times one program after the other, each in a process of its own, all calls after a
warm-up in a row; it is given as many calls as its time holds, instead of the fewer it would make by default.

Seconds are machine luck on a shared machine: `retest_abs` is the disagreement of `low_s` over all runs, and
`retest_abs_usual_speed` that among the runs at the machine's usual speed.
"""

import itertools
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import profiling_real as real
from profiling_figures import Figure, Figures

from adaptare.devices import connect
from adaptare.profiler import Measurement, Workload, precise_within
from adaptare.profiler.analysis.device_speed import stable_rounds
from adaptare.profiler.store.measurement import overhead

RUNS = 8
RUN_S = 5.0
# So narrow that the time always ends a run.
NEVER = 1e-6
CHUNK = 20


def equal_time(runs: int = RUNS, run_s: float = RUN_S) -> Figures:
    """Spread of the overhead over runs of each protocol, and of the seconds over runs of adaptare."""
    ours = list[Measurement]()
    with real.chains(real.UNIT, real.UNIT, real.UNIT + 1) as files:

        def rounds() -> float:
            plain, more = real.measured(files, precise_within(NEVER, run_s), len(ours))
            ours.append(plain)
            return overhead(more, plain).middle

        protocols: dict[str, Callable[[], float]] = {
            "adaptare": rounds,
            "10 warm-ups, mean": lambda: _in_a_row(files, run_s, 10, statistics.mean),
            "1 warm-up, median": lambda: _in_a_row(files, run_s, 1, statistics.median),
        }
        found, took_s = ({name: list[float]() for name in protocols} for _ in range(2))
        rng = np.random.default_rng(0)
        for name in (name for _ in range(runs) for name in rng.permutation(list(protocols))):
            started = time.monotonic()
            found[name].append(protocols[name]())
            took_s[name].append(time.monotonic() - started)
    rows = [
        {
            "protocol": name,
            "seconds": statistics.median(took_s[name]),
            "overhead": real.spread(values),
            "standard_deviation": statistics.stdev(values),
            "runs": runs,
        }
        for name, values in found.items()
    ]
    usual = stable_rounds(np.array([each.reference_low_s for each in ours]))
    at_usual = list(itertools.compress(ours, usual))
    return {
        "overhead_at_equal_time": Figure(rows, runs),
        "retest_abs": Figure(apart([each.low_s for each in ours]), len(ours)),
        "retest_abs_usual_speed": Figure(apart([each.low_s for each in at_usual]), len(at_usual)),
        "retest_latency": Figure(apart([each.latency_s for each in ours]), len(ours)),
    }


def _in_a_row(files: real.Files, run_s: float, warm_ups: int, summary: Callable[[Sequence[float]], float]) -> float:
    """Overhead by two processes one after the other, half of the time each."""
    _, plain, more = files.files
    base, candidate = (_timed(files, each, run_s / 2, warm_ups, summary) for each in (plain, more))
    return candidate / base - 1


def _timed(
    files: real.Files, which: Workload, seconds: float, warm_ups: int, summary: Callable[[Sequence[float]], float]
) -> float:
    end, samples = time.monotonic() + seconds, list[float]()
    with connect(real.DEVICE).open() as worker:
        loaded = worker.load(files.program(which))
        worker.run(loaded.program_id, which.hash, warm_ups)
        while not samples or time.monotonic() < end:
            samples += worker.run(loaded.program_id, which.hash, CHUNK)
    return summary(samples)


def apart(values: Sequence[float]) -> dict[str, float] | None:
    """Median and quantiles of |one / other - 1| over all pairs; `None` of fewer than two values."""
    pairs = [abs(one / other - 1) for one, other in itertools.combinations(values, 2)]
    return real.spread(pairs) if pairs else None
