"""The keys of profiling.py that ask how well short runs repeat, and what fixed protocols of others cost for as much.

Short runs of adaptare are spread over some minutes beside the background load. Between them one worker times the same
program call by call, in one long series. A fixed protocol reports the mean of so many consecutive calls; extended k
times it reports the mean of k times as many, so that the means of consecutive windows of the series are what repeated
runs of it would have reported. Disagreement is the 90 % quantile over pairs of runs of |one / other - 1|. Wanted is the
length from which on windows disagree no more than the runs of adaptare do: in `latency_s`, which is a ratio, and in
`low_s`, which is in seconds of its own as theirs are.

Where the series has too few windows of that length, a power law through the disagreement of windows of at least half
a second tells it; a series that drifts has none, and then, as beyond ten minutes, more than 600 s is reported.

Everything that is not known is left out in favour of the fixed protocols: their windows come out of one process, whose
placement in memory never changes, while each run of adaptare starts its own; and the seconds of adaptare hold that
start and the loading, those of the protocols only their calls.

Seconds of their own are compared among runs at one speed of the machine, the one that most of them had; those whose
reference was faster or slower are counted, and made up for by further ones. Latencies are of all runs.
"""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import profiling_real as real
from numpy.typing import NDArray

from adaptare.devices import connect
from adaptare.profiler import Measurement, stable_rounds

# Runs at one speed, and at most in all.
RUNS, MOST_RUNS = 12, 22
EVERY_S = 11.0
RUN_S = 1.3
LIMIT_S = 600.0
# Six windows make fifteen pairs, of which the ninetieth percentile still means something.
LEAST_WINDOWS = 6
FITTED_FROM_S = 0.5
DROPPED = 10
CHUNK = 50


@dataclass(frozen=True)
class Protocol:
    """A mean over a fixed number of calls, or over as many as a time holds.

    Args:
        name: What it does.
        whose: The tools that do so.
        warm_up: Discarded calls.
        calls: Calls that count; 0 if the time decides.
        least_s: They go on for at least so long.
    """

    name: str
    whose: str
    warm_up: int
    calls: int
    least_s: float = 0.0


PROTOCOLS = (
    Protocol("10 warm-ups + 10 s, mean", "optimum-benchmark", 10, 10, 10.0),
    Protocol("1 warm-up + 5 repetitions, mean", "llama-bench", 1, 5),
    Protocol("1 warm-up + 1000 runs, mean", "onnxruntime_perf_test", 1, 1000),
    Protocol("10 warm-ups + 50 runs, mean", "nn-Meter builder", 10, 50),
)


def short_runs() -> dict[str, Any]:
    """How much short runs differ, and what each fixed protocol needs to repeat as well: in seconds, and over ours."""
    found, elapsed_s, series = recorded()
    steady = at_one_speed(found)
    low, latency = apart([each.low_s for each in steady]), apart([each.latency_s for each in found])
    enough = len(steady) >= RUNS
    retest: dict[str, Any] = {
        "retest_abs_median": float(np.median(low)) if enough else None,
        "retest_abs_p90": float(np.quantile(low, 0.9)) if enough else None,
        "retest_latency_p90": float(np.quantile(latency, 0.9)),
        "retest_latency_max": float(np.max(latency)),
        "retest_runs": len(found),
        "retest_runs_at_another_speed": len(found) - len(steady),
    }
    ours_s = float(np.median(elapsed_s))
    call_s = float(np.mean(series))
    curve = Curve.of(series)
    rows = {
        name: [_row(protocol, call_s, curve, target, ours_s) for protocol in PROTOCOLS if target is not None]
        for name, target in (
            ("fixed_protocols", retest["retest_latency_p90"]),
            ("fixed_protocols_low", retest["retest_abs_p90"]),
        )
    }
    return {
        **retest,
        **rows,
        "fixed_protocols_ours_s": ours_s,
        "fixed_protocols_curve": [[round(length, 4), round(apart, 5)] for length, apart in curve.points],
        "fixed_protocols_exponent": curve.fit()[1],
    }


def at_one_speed(runs: Sequence[Measurement]) -> list[Measurement]:
    """Runs at the speed of the machine that most of them had."""
    seconds = np.array([each.reference_low_s for each in runs])
    return list(itertools.compress(runs, stable_rounds(seconds) if runs else []))


def recorded() -> tuple[list[Measurement], list[float], NDArray[np.float64]]:
    """Short runs, until enough had one speed, the seconds each took, and the series of calls taken between them."""
    runs, elapsed_s, calls_s = list[Measurement](), list[float](), list[float]()
    with real.chains(real.UNIT, real.UNIT) as files, connect(real.DEVICE).open() as worker:
        program = files.program(real.workload(1))
        loaded = worker.load(program)
        (feed,) = program.feeds
        begun = time.monotonic()
        while len(at_one_speed(runs)) < RUNS and len(runs) < MOST_RUNS:
            number, started = len(runs), time.monotonic()
            (found,) = real.measured(files, RUN_S, 1, number)
            elapsed_s.append(time.monotonic() - started)
            runs.append(found)
            worker.run(loaded.program_id, feed.name, DROPPED)
            while time.monotonic() < begun + (number + 1) * EVERY_S:
                calls_s += worker.run(loaded.program_id, feed.name, CHUNK)
    return runs, elapsed_s, np.array(calls_s)


def apart(values: Sequence[float]) -> list[float]:
    """|one / other - 1| of all pairs."""
    return [abs(one / other - 1) for one, other in itertools.combinations(values, 2)]


@dataclass(frozen=True)
class Curve:
    """How far apart the means of windows are, by their length.

    Args:
        points: Seconds and disagreement, shortest first.
        windows: How many windows of that length follow each other in the series.
    """

    points: Sequence[tuple[float, float]]
    windows: Sequence[int]

    @classmethod
    def of(cls, series: NDArray[np.float64]) -> "Curve":
        """Of windows of a series of seconds; they begin every quarter of a length, and only pairs apart count."""
        call_s, longest = float(np.mean(series)), len(series) // LEAST_WINDOWS
        sums = np.concatenate([[0.0], np.cumsum(series)])
        points, windows = [], []
        for size in np.unique(np.geomspace(5, longest, 16).astype(int)):
            starts = np.arange(0, len(series) - size + 1, max(1, size // 4))
            starts = starts[np.linspace(0, len(starts) - 1, min(len(starts), 400)).astype(int)]
            means = (sums[starts + size] - sums[starts]) / size
            separate = np.abs(np.subtract.outer(starts, starts)) >= size
            ratios = np.divide.outer(means, means)[separate]
            points.append((float(size * call_s), float(np.quantile(np.abs(ratios - 1), 0.9))))
            windows.append(len(series) // int(size))
        return cls(points, windows)

    def fit(self) -> tuple[float, float]:
        """Disagreement of one second and the exponent with which it changes, from windows of at least half of one."""
        used = [
            (length, apart, np.sqrt(count))
            for (length, apart), count in zip(self.points, self.windows, strict=True)
            if length >= FITTED_FROM_S
        ]
        lengths, apart, weights = (np.array(column) for column in zip(*used, strict=True))
        exponent, log_scale = np.polyfit(np.log(lengths), np.log(apart), 1, w=weights)
        return float(np.exp(log_scale)), float(exponent)

    def at(self, length_s: float) -> float:
        """Disagreement of windows of a length that the series has, between its points."""
        lengths, apart = np.log(np.array(self.points)).T
        return float(np.exp(np.interp(np.log(length_s), lengths, apart)))

    def length_for(self, target: float) -> tuple[float, str]:
        """Seconds from which on windows disagree no more than that, infinite if they never do; and how it is known."""
        above = [index for index, (_, apart) in enumerate(self.points) if apart > target]
        if not above:
            return self.points[0][0], "seen"
        if above[-1] + 1 < len(self.points):
            return self.points[above[-1] + 1][0], "seen"
        scale, exponent = self.fit()
        if exponent >= 0:
            return float("inf"), "disagreement does not fall with length"
        log_length = np.log(scale / target) / -exponent
        length = float(np.exp(min(log_length, np.log(100 * LIMIT_S))))
        longest = self.points[-1][0]
        return max(length, longest), f"extrapolated from windows of up to {longest:.0f} s by length^{exponent:.2f}"


def _row(protocol: Protocol, call_s: float, curve: Curve, target: float, ours_s: float) -> dict[str, Any]:
    needed_s, how = curve.length_for(target)
    plain_s = max(protocol.calls * call_s, protocol.least_s)
    seconds = protocol.warm_up * call_s + max(plain_s, needed_s)
    counted = min(seconds, LIMIT_S)
    return {
        "name": protocol.name,
        "whose": protocol.whose,
        "seconds": round(seconds, 1) if seconds <= LIMIT_S else f"> {LIMIT_S:.0f}",
        "over_ours": round(counted / ours_s, 1),
        "note": f"{how}; as it is: {plain_s:.2g} s, {curve.at(plain_s):.1%} apart",
    }
