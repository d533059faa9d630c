"""The keys of profiling.py whose truth is known: simulated devices and synthetic series."""

from collections.abc import Callable
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy import stats
from transformers import LlamaConfig

from adaptare.devices import SimulatedDevice
from adaptare.devices.simulated_noise import Autocorrelated, Bursts, Jitter, OpeningOffset
from adaptare.profiler import (
    AdapterConfig,
    FixedRounds,
    Interval,
    ModelShape,
    Workload,
    changes,
    overhead,
    profile,
    ratio_interval,
    steadiness,
)

SHAPE = ModelShape.from_config(
    LlamaConfig(num_hidden_layers=2, hidden_size=32, num_attention_heads=4, intermediate_size=48, vocab_size=64)
)
BASE = Workload(SHAPE).base
# Linears of the same size in different layers: the same work in different programs.
FIRST, SECOND = (Workload(SHAPE, AdapterConfig.of({f"model.layers.{layer}.self_attn.q_proj": 8})) for layer in (0, 1))
LARGER = Workload(SHAPE, AdapterConfig.uniform(SHAPE, 8))
LENGTH = 200


def same_program_twice(trials: int = 400) -> dict[str, Any]:
    """Comparisons of two programs that are equally fast, but for what each opening happens to give them."""
    ours, naive = (
        sum(not each.contains(0.0) for each in _compared(FIRST, SECOND, trials, openings=openings, rounds=rounds))
        for openings, rounds in ((8, 8), (1, 64))
    )
    return {
        "aa_trials": trials,
        "aa_false_positive": ours / trials,
        "aa_false_positive_p": float(stats.binomtest(ours, trials, 0.05).pvalue),
        "aa_one_opening_false_positive": naive / trials,
        "aa_one_opening_p": float(stats.binomtest(naive, trials, 0.05).pvalue),
    }


def true_difference(trials: int = 400) -> dict[str, Any]:
    """How often the interval holds the true overhead, on a device with every kind of noise."""
    device = SimulatedDevice(launch_s=2e-4)
    truth = device.latency_s(LARGER.work()) / device.latency_s(FIRST.work()) - 1
    held = sum(each.contains(truth) for each in _compared(LARGER, FIRST, trials, openings=8, rounds=8))
    return {"aa_coverage": held / trials}


def _compared(one: Workload, other: Workload, trials: int, *, openings: int, rounds: int) -> list[Interval]:
    """One interval for each seed; no time is taken, so they may disturb each other."""
    return list(Parallel(n_jobs=-1)(delayed(_once)(one, other, seed, openings, rounds) for seed in range(trials)))


def _once(one: Workload, other: Workload, seed: int, openings: int, rounds: int) -> Interval:
    noise = [OpeningOffset(0.02, seed), Autocorrelated(0.02, 0.7), Bursts(0.05, 2.0), Jitter(0.01)]
    device = SimulatedDevice(launch_s=2e-4, noise=noise, seed=seed)
    found = profile([one, other], reference=BASE, device=device, stop=FixedRounds(rounds), seed=seed, openings=openings)
    return overhead(*found)


def remembering_noise(trials: int = 400, rounds: int = 60) -> dict[str, Any]:
    """Coverage of the interval within one opening where rounds that follow each other are alike."""
    ours = plain = 0
    for seed in range(trials):
        rng = np.random.default_rng(seed)
        logs = np.empty(rounds)
        logs[0] = rng.standard_normal()
        for index in range(1, rounds):
            logs[index] = 0.5 * logs[index - 1] + np.sqrt(1 - 0.5**2) * rng.standard_normal()
        ratios = np.exp(0.02 * logs)
        ours += ratio_interval(ratios, np.zeros(rounds, dtype=np.int64)).contains(1.0)
        drawn = np.median(ratios[rng.integers(0, rounds, (1000, rounds))], axis=1)
        plain += bool(np.percentile(drawn, 2.5) <= 1.0 <= np.percentile(drawn, 97.5))
    return {"interval_coverage_ar1": ours / trials, "interval_coverage_ar1_iid_bootstrap": plain / trials}


Series = NDArray[np.float64]


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


def kinds_of_warm_up(traces: int = 100) -> dict[str, Any]:
    """Seven kinds of series, each with noise of half a percent to two."""
    rng = np.random.default_rng(0)
    right: dict[str, float] = {}
    kept = 0.0
    for name, (make, trend) in KINDS.items():
        found = [steadiness(make(rng) * _noise(rng, LENGTH)) for _ in range(traces)]
        right[name] = float(np.mean([each.trend == trend for each in found]))
        if name == "flat":
            kept = float(np.mean([each.start == 0 for each in found]))
    accuracy = float(np.mean(list(right.values())))
    return {"warmup_class_accuracy": accuracy, "warmup_by_kind": right, "flat_nothing_dropped": kept}


def alarms(traces: int = 200) -> dict[str, Any]:
    """A step of 20 % and a ramp of 10 % in the reference, and references that stay as they are."""
    rng = np.random.default_rng(0)
    seen = false = 0
    for _ in range(traces):
        at = int(rng.integers(30, LENGTH - 40))
        step = np.where(np.arange(LENGTH) < at, 1.0, 1.2)
        ramp = 1 + 0.1 * np.clip((np.arange(LENGTH) - at) / 20, 0, 1)
        for series, due in ((step, at + 2), (ramp, at + 22)):
            found = changes(series * _noise(rng, LENGTH))
            seen += bool(found) and at <= found[0] <= due
        false += bool(changes(_noise(rng, LENGTH)))
    return {"drift_alarm": seen / (2 * traces), "false_alarm": false / traces}


def _noise(rng: np.random.Generator, n: int) -> Series:
    return np.exp(rng.choice([0.005, 0.01, 0.02]) * rng.standard_normal(n))
