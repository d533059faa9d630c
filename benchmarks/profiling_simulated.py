"""The keys of profiling.py whose truth is known: simulated devices and synthetic series."""

import itertools
from collections.abc import Callable

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from profiling_figures import Figure, Figures
from simulated_noise import Autocorrelated, Bursts, Jitter, OpeningOffset
from transformers import LlamaConfig

from adaptare.devices import SimulatedDevice
from adaptare.profiler import Configuration, FixedRounds, ModelShape, Workload, precise_within, profile
from adaptare.profiler.analysis.intervals import Interval, ratio_interval
from adaptare.profiler.analysis.warmup import Steadiness, speed_changes, steadiness
from adaptare.profiler.measuring.stopping import StoppingRule
from adaptare.profiler.store.measurement import overhead

SHAPE = ModelShape.from_config(
    LlamaConfig(num_hidden_layers=2, hidden_size=32, num_attention_heads=4, intermediate_size=48, vocab_size=64)
)
BASE = Workload(SHAPE).base
# Linears of the same size in different layers: the same work in different programs.
FIRST, SECOND = (Workload(SHAPE, Configuration.of({f"model.layers.{layer}.self_attn.q_proj": 8})) for layer in (0, 1))
LARGER = Workload(SHAPE, Configuration.uniform(SHAPE, 8))
LENGTH = 200
Series = NDArray[np.float64]
AUTOCORRELATED_LENGTHS = (60, 200, 400)


def same_program_twice(trials: int = 400) -> Figures:
    """Shares of comparisons of two equally fast programs that find a difference; openings give each its own offset."""
    ours, naive = (
        sum(not each.contains(0.0) for each in _compared(FIRST, SECOND, trials, FixedRounds(rounds), openings))
        for openings, rounds in ((8, 8), (1, 64))
    )
    return {
        "aa_false_positive": Figure(ours / trials, trials),
        "aa_one_opening_false_positive": Figure(naive / trials, trials),
    }


def true_difference(trials: int = 400) -> Figures:
    """Shares of intervals that hold the true overhead, on a device with every kind of noise."""
    device = SimulatedDevice(launch_s=2e-4)
    truth = device.latency_s(LARGER.work()) / device.latency_s(FIRST.work()) - 1
    rules = {"coverage_openings": (FixedRounds(8), 8), "coverage_precise": (precise_within(0.01, 600.0), 24)}
    held = {
        name: sum(each.contains(truth) for each in _compared(LARGER, FIRST, trials, stop, openings))
        for name, (stop, openings) in rules.items()
    }
    return {name: Figure(count / trials, trials) for name, count in held.items()}


def two_levels(trials: int = 2000) -> Figures:
    """Coverage of the mean of the middle half of all openings, where a share of the loadings is 6 % slower."""
    rng, shares, held = np.random.default_rng(0), (0.1, 0.3, 0.5), dict[str, float]()

    def logs(n: int, share: float, sigma: float) -> Series:
        return sigma * rng.standard_normal(n) + np.log(1.06) * (rng.random(n) < share)

    for share, sigma in itertools.product(shares, (0.003, 0.01, 0.015)):
        everything = np.sort(logs(1_000_000, share, sigma))
        truth = float(np.exp(everything[250_000:750_000].mean()))
        for n in (8, 16, 48):
            found = [ratio_interval(np.exp(logs(n, share, sigma)), np.arange(n)) for _ in range(trials)]
            held[f"{share:.0%} slower, spread {sigma:.1%}, {n} openings"] = float(
                np.mean([each.contains(truth) for each in found])
            )
    return {
        "two_levels_least_coverage": Figure(min(held.values()), trials),
        "two_levels_coverage": Figure(held, trials * len(held)),
    }


def _compared(
    one: Workload, other: Workload, trials: int, stop: StoppingRule, openings: int, rho: float = 0.7
) -> list[Interval]:
    """One interval for each seed; no time is taken, so they may disturb each other."""
    return list(Parallel(n_jobs=-1)(delayed(_once)(one, other, seed, stop, openings, rho) for seed in range(trials)))


def _once(one: Workload, other: Workload, seed: int, stop: StoppingRule, openings: int, rho: float) -> Interval:
    noise = [OpeningOffset(0.02, seed), Autocorrelated(0.02, rho), Bursts(0.05, 2.0), Jitter(0.01)]
    device = SimulatedDevice(launch_s=2e-4, noise=noise, seed=seed)
    return overhead(*profile([one, other], reference=BASE, device=device, stop=stop, seed=seed, openings=openings))


def within_one_opening(trials: int = 400, rounds: int = 60) -> Figures:
    """Coverage of the interval within one opening, of independent rounds and of such that remember."""
    found: Figures = {}
    for name, rho in (("coverage_iid", 0.0), ("coverage_ar1", 0.5)):
        held = 0
        for seed in range(trials):
            ratios = _remembering(np.random.default_rng(seed), rounds, sigma=0.02, rho=rho)
            held += ratio_interval(ratios, np.zeros(rounds, dtype=np.int64)).contains(1.0)
        found[name] = Figure(held / trials, trials)
    return found


def _flat(rng: np.random.Generator) -> Series:
    return np.ones(LENGTH)


def _ramp(rng: np.random.Generator) -> Series:
    return 1 + rng.uniform(0.2, 2) * np.exp(-np.arange(LENGTH) / rng.uniform(LENGTH / 40, LENGTH / 12))


def _step(rng: np.random.Generator) -> Series:
    high = 1 + rng.uniform(0.08, 0.5)
    return np.where(np.arange(LENGTH) < rng.uniform(0.08, 0.4) * LENGTH, high, 1.0)


def _drift(rng: np.random.Generator) -> Series:
    return np.linspace(1, 1 + rng.uniform(0.1, 0.4), LENGTH)


def _bimodal(rng: np.random.Generator) -> Series:
    return np.where(rng.random(LENGTH) < rng.uniform(0.1, 0.5), 1 + rng.uniform(0.05, 0.4), 1.0)


def _spikes(rng: np.random.Generator) -> Series:
    return np.where(rng.random(LENGTH) < 0.05, rng.uniform(2, 10, LENGTH), 1.0)


def _never(rng: np.random.Generator) -> Series:
    levels: list[float] = []
    while len(levels) < LENGTH:
        levels += [rng.uniform(0.8, 1.3)] * int(rng.integers(LENGTH // 20, LENGTH // 7))
    return np.array(levels[:LENGTH])


KINDS: dict[str, tuple[Callable[[np.random.Generator], Series], str]] = {
    "flat": (_flat, "flat"),
    "ramp": (_ramp, "warm-up"),
    "step": (_step, "warm-up"),
    "drift": (_drift, "no steady state"),
    "bimodal": (_bimodal, "flat"),
    "spikes": (_spikes, "flat"),
    "never": (_never, "no steady state"),
}


def kinds_of_warm_up(traces: int = 100) -> Figures:
    """Seven kinds of series, each with independent noise of half a percent to two."""
    rng = np.random.default_rng(0)
    right: dict[str, float] = {}
    kept = 0.0
    for name, (make, trend) in KINDS.items():
        found = [steadiness(make(rng) * _noise(rng, LENGTH)) for _ in range(traces)]
        right[name] = float(np.mean([each.trend == trend for each in found]))
        if name == "flat":
            kept = float(np.mean([each.start == 0 for each in found]))
    return {
        "warmup_class_accuracy": Figure(float(np.mean(list(right.values()))), traces * len(KINDS)),
        "warmup_by_kind": Figure(right, traces),
        "flat_nothing_dropped": Figure(kept, traces),
    }


def warm_up_below_autocorrelated_noise(traces: int = 200) -> Figures:
    """One level, a warm-up from twice the time, and one of 20 % that ends at once, in series of three lengths."""
    rng, flat, found = np.random.default_rng(0), list[Steadiness](), list[bool]()
    for n in AUTOCORRELATED_LENGTHS:
        ramp, step = 1 + np.exp(-np.arange(n) / (n / 20)), np.where(np.arange(n) < n // 5, 1.2, 1.0)
        flat += [steadiness(_remembering(rng, n)) for _ in range(traces)]
        found += [
            steadiness(shape * _remembering(rng, n)).trend == "warm-up" for shape in (ramp, step) for _ in range(traces)
        ]
    return {
        "autocorrelated_flat": Figure(float(np.mean([each.trend == "flat" for each in flat])), len(flat)),
        "autocorrelated_nothing_dropped": Figure(float(np.mean([each.start == 0 for each in flat])), len(flat)),
        "autocorrelated_warmup_found": Figure(float(np.mean(found)), len(found)),
    }


def alarms(traces: int = 200) -> Figures:
    """A step of 20 % and a ramp of 10 % in the reference, and references that stay as they are."""
    rng = np.random.default_rng(0)
    seen = false = 0
    for _ in range(traces):
        at = int(rng.integers(30, LENGTH - 40))
        step = np.where(np.arange(LENGTH) < at, 1.0, 1.2)
        ramp = 1 + 0.1 * np.clip((np.arange(LENGTH) - at) / 20, 0, 1)
        for series, due in ((step, at + 2), (ramp, at + 22)):
            seen += _seen(speed_changes(series * _noise(rng, LENGTH)), at, due)
        false += bool(speed_changes(_noise(rng, LENGTH)))
    return {"drift_alarm": Figure(seen / (2 * traces), 2 * traces), "false_alarm": Figure(false / traces, traces)}


def alarms_below_autocorrelated_noise(traces: int = 200) -> Figures:
    """A step of 20 %, seen at most ten rounds off, and references that stay as they are, in series of three lengths."""
    rng = np.random.default_rng(0)
    seen = false = 0
    for n in AUTOCORRELATED_LENGTHS:
        for _ in range(traces):
            at = int(rng.integers(30, n - 12))
            seen += _seen(speed_changes(np.where(np.arange(n) < at, 1.0, 1.2) * _remembering(rng, n)), at, at + 10)
            false += bool(speed_changes(_remembering(rng, n)))
    cases = traces * len(AUTOCORRELATED_LENGTHS)
    return {
        "autocorrelated_drift_alarm": Figure(seen / cases, cases),
        "autocorrelated_false_alarm": Figure(false / cases, cases),
    }


def strongly_autocorrelated(trials: int = 200) -> Figures:
    """All of that below noise with a longer memory, by the correlation of consecutive rounds.

    `coverage_openings` and `coverage_one_opening` are shares of intervals that hold the truth.
    """
    device, found = SimulatedDevice(launch_s=2e-4), dict[str, dict[str, float]]()
    truth = device.latency_s(LARGER.work()) / device.latency_s(FIRST.work()) - 1
    for rho in (0.7, 0.9, 0.95):
        rng = np.random.default_rng(0)
        series = [_remembering(rng, n, rho=rho) for n in AUTOCORRELATED_LENGTHS for _ in range(trials)]
        seen = 0
        for each in series:
            at = int(rng.integers(30, len(each) - 12))
            seen += _seen(speed_changes(np.where(np.arange(len(each)) < at, 1.0, 1.2) * each), at, at + 10)
        courses = [steadiness(each) for each in series]
        alone = [ratio_interval(each[:60], np.zeros(60, dtype=np.int64)) for each in series]
        over_openings = _compared(LARGER, FIRST, trials, FixedRounds(8), 8, rho)
        found[f"{rho:g}"] = {
            "flat": float(np.mean([each.trend == "flat" for each in courses])),
            "nothing_dropped": float(np.mean([each.start == 0 for each in courses])),
            "false_alarm": float(np.mean([bool(speed_changes(each)) for each in series])),
            "step_seen": seen / len(series),
            "coverage_one_opening": float(np.mean([each.contains(1.0) for each in alone])),
            "coverage_openings": float(np.mean([each.contains(truth) for each in over_openings])),
        }
    return {"strongly_autocorrelated": Figure(found, trials)}


def _seen(found: list[int], at: int, due: int) -> bool:
    """True if the first change is found neither much before it begins nor too late."""
    return bool(found) and at - 10 <= found[0] <= due


def _noise(rng: np.random.Generator, n: int) -> Series:
    return np.exp(rng.choice([0.005, 0.01, 0.02]) * rng.standard_normal(n))


def _remembering(rng: np.random.Generator, n: int, *, sigma: float = 0.03, rho: float = 0.7) -> Series:
    """Autoregressive noise of median 1."""
    logs = rng.standard_normal(n)
    for index in range(1, n):
        logs[index] = rho * logs[index - 1] + np.sqrt(1 - rho**2) * logs[index]
    return np.exp(sigma * logs)
