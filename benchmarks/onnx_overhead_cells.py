"""The cells of onnx_overhead.py: what is measured in each, how long, and what all its sessions say together."""

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import trim_mean

from adaptare.devices import Device, DeviceInfo
from adaptare.profiler import (
    AdapterConfig,
    FixedRounds,
    Interval,
    Measurement,
    ModelShape,
    Phase,
    Quantisation,
    Store,
    Workload,
    open_model,
    overhead,
    profile,
    profile_by_stubs,
)

RANKS = (1, 8, 16, 32, 64)
QUERY_AND_VALUE = ("q_proj", "v_proj")
MIDDLE = 16
# What intervals are to be: of one rank over another of the same program, and of a placement over the base.
RANK_HALF_WIDTH, HALF_WIDTH = 0.01, 0.02
# Openings and rounds of a session, by base and phase. A program on 4-bit weights is off by some percent for as long as
# it is open, which the line through two stubs multiplies; rounds of one such opening are alike, so two of them do.
# Prefill takes long and is steady.
PACE = {
    ("fp32", "decode"): (7, 20),
    ("int4", "decode"): (20, 14),
    ("fp32", "prefill"): (6, 8),
    ("int4", "prefill"): (6, 8),
}
STUBS_PACE = {
    ("fp32", "decode"): (10, 18),
    ("int4", "decode"): (60, 2),
    ("fp32", "prefill"): (6, 8),
    ("int4", "prefill"): (8, 5),
}
# The same for adapters in the graph itself. Each is a program of its own, and loading takes longer than running.
OWN_PROGRAMS_PACE = {
    ("fp32", "decode"): (8, 10),
    ("int4", "decode"): (60, 2),
    ("fp32", "prefill"): (6, 5),
    ("int4", "prefill"): (6, 5),
}
# From so many openings in a session on, it is what each is off that makes the interval.
MANY_OPENINGS = 30
TRIMMED = 0.2
# Sessions are told apart by such steps in their numbers of openings and of rounds.
APART = 1_000_000
# https://huggingface.co/Qwen/Qwen2.5-0.5B, config.json
QWEN_05B = {
    "model_type": "qwen2",
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
    "rope_theta": 1000000.0,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
}


@dataclass(frozen=True)
class Case:
    """One row: `present` graphs have every site, `cut` ones only those that carry an adapter."""

    placement: str
    mode: str
    rank: int
    workload: Workload


def cases_of(base: Workload, ranks: Sequence[int] = RANKS) -> list[Case]:
    shape, middle = base.shape, MIDDLE
    everywhere = {rank: AdapterConfig.uniform(shape, rank) for rank in ranks}
    some = {rank: AdapterConfig.uniform(shape, rank, kinds=QUERY_AND_VALUE) for rank in ranks}
    fed = replace(base, mode="swappable")
    found = [Case("all", "swappable", 0, fed.with_adapter(AdapterConfig().uncut(shape)))]
    found += [Case("all", "swappable", rank, fed.with_adapter(everywhere[rank])) for rank in ranks]
    found += [Case("q+v, cut", "swappable", rank, fed.with_adapter(some[rank])) for rank in ranks]
    found += [Case("q+v, present", "swappable", rank, fed.with_adapter(some[rank].uncut(shape))) for rank in ranks]
    padded = replace(fed.with_adapter(some[middle].uncut(shape)), mode="padded")
    found.append(Case("q+v, present", "padded", middle, padded))
    static = replace(base, mode="static")
    found += [Case("all", "static", rank, static.with_adapter(everywhere[rank])) for rank in (middle, ranks[-1])]
    found.append(Case("q+v, cut", "static", middle, static.with_adapter(some[middle])))
    folded = fed.with_adapter(everywhere[middle]).folded
    return [*found, Case("all", folded.mode, middle, folded)]


def stub_cases(base: Workload) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    """Adapters that are fed to two graphs, and adapters that are part of graphs of their own."""
    cases = cases_of(base)
    middle = [case for case in cases if case.rank == MIDDLE]
    fed = [case for case in cases if case.placement == "all" and case.mode == "swappable"]
    fed += [case for case in cases if case.placement == "q+v, cut" and case.mode == "swappable" and case.rank != 8]
    fed += [case for case in middle if case.placement == "q+v, present"]
    return tuple(fed), tuple(case for case in middle if case.placement == "all" and case.mode != "swappable")


@dataclass(frozen=True)
class Part:
    """Cases that are measured beside each other, and for how long in each session."""

    cases: tuple[Case, ...]
    openings: int
    rounds: int


@dataclass(frozen=True)
class Cell:
    """A model on a base in a phase.

    Args:
        name: MODEL/BASE/PHASE.
        base: Without adapter.
        by_stubs: Whether it is composed from models of fewer layers.
        parts: What is measured in sessions of their own.
    """

    name: str
    base: Workload
    by_stubs: bool
    parts: tuple[Part, ...]

    def measure(self, part: Part, device: Device, seed: int) -> Sequence[Measurement]:
        """One session."""
        workloads = [case.workload for case in part.cases]
        how: dict[str, Any] = {
            "reference": self.base,
            "device": device,
            "stop": FixedRounds(part.rounds),
            "seed": seed,
            "openings": part.openings,
        }
        if self.by_stubs:
            return list(itertools.chain.from_iterable(profile_by_stubs(workloads, **how)))
        return profile(workloads, **how)

    def narrowed(self, device: Device, store: Store, minutes: float) -> list[dict[str, Any]]:
        """Measures more sessions until every interval is narrow enough, for so many minutes at most; its rows."""
        end = time.monotonic() + 60 * minutes
        measured = store.measurements()
        info, found = self.whose(device.info(), measured), []
        for part in self.parts:
            rows = list(self.rows(part, info, measured))
            while not _failed(rows) and not _narrow(rows) and (not rows or time.monotonic() < end):
                seed = len(_sessions(_kept(part, self.base, info, measured)))
                new = self.measure(part, device, seed)
                store.append(new)
                measured = [*measured, *new]
                rows = list(self.rows(part, info, measured))
            found += rows
        return found

    def whose(self, here: DeviceInfo, measured: Sequence[Measurement]) -> DeviceInfo:
        """The machine at hand, or another whose sessions are narrow already: those of two are never put together."""
        machines = dict.fromkeys([here, *(each.device for each in measured)])
        alike = [each for each in machines if replace(each, hardware=here.hardware) == here]
        narrow = (each for each in alike if all(_narrow(list(self.rows(part, each, measured))) for part in self.parts))
        return next(narrow, here)

    def rows(self, part: Part, info: DeviceInfo, measured: Sequence[Measurement]) -> Iterator[dict[str, Any]]:
        """What each case costs over the base, and over the first rank of its placement and mode, in all sessions."""
        kept = _kept(part, self.base, info, measured)
        number = {session: index for index, session in enumerate(_sessions(kept))}
        firsts: dict[tuple[str, str], Measurement] = {}
        for case in part.cases:
            own = [each for each in kept if each.workload == case.workload]
            if failures := [each.failure for each in own if each.failure]:
                yield {"cell": self.name, **_named(case), "failure": failures[0]}
            elif own:
                found = _pooled(own, number)
                first = firsts.setdefault((case.placement, case.mode), found)
                step = overhead(found, first) if first is not found else None
                over_base = _mean_of_openings(found) if part.openings >= MANY_OPENINGS else found.overhead
                yield {
                    "cell": self.name,
                    "hardware": info.hardware,
                    **_named(case),
                    **_interval("overhead", over_base),
                    "half_width": (over_base.upper - over_base.lower) / 2,
                    "over_first_rank": _interval("step", step) if step else None,
                    "rank_half_width": (step.upper - step.lower) / 2 if step else None,
                    "base_s": found.reference_raw_s,
                    "resident_bytes": found.resident_bytes,
                    "load_s": found.load_s,
                    "openings": len(set(found.openings.tolist())),
                    "sessions": len(own),
                }


def cells() -> list[Cell]:
    """All of them."""
    found = []
    models = {"smollm2-135m": open_model("smollm2-135m").shape, "qwen2.5-0.5b": ModelShape.from_mapping(QWEN_05B)}
    bases: dict[str, Quantisation] = {"fp32": "none", "int4": "int4"}
    phases: tuple[Phase, ...] = ("decode", "prefill")
    for (model, shape), (name, quantisation), phase in itertools.product(models.items(), bases.items(), phases):
        base = Workload(shape, mode="merged", phase=phase, quantisation=quantisation)
        parts = [Part(tuple(cases_of(base)), *PACE[name, phase])]
        if by_stubs := model != "smollm2-135m":
            fed, own = stub_cases(base)
            parts = [Part(fed, *STUBS_PACE[name, phase]), Part(own, *OWN_PROGRAMS_PACE[name, phase])]
        found.append(Cell(f"{model}/{name}/{phase}", base, by_stubs, tuple(parts)))
    return found


def _kept(part: Part, base: Workload, info: DeviceInfo, measured: Sequence[Measurement]) -> list[Measurement]:
    wanted = {case.workload for case in part.cases}
    return [each for each in measured if each.workload in wanted and each.reference == base and each.device == info]


def _sessions(measured: Sequence[Measurement]) -> list[str]:
    """In the order of their beginnings."""
    return list(dict.fromkeys(each.session for each in sorted(measured, key=lambda each: each.taken_at)))


def _pooled(measured: Sequence[Measurement], number: Mapping[str, int]) -> Measurement:
    """One workload in several sessions, of which each has openings and rounds of its own."""
    first, *_ = measured
    visits = {
        name: tuple(
            replace(
                visit,
                opening=visit.opening + APART * number[each.session],
                round=visit.round + APART * number[each.session],
            )
            for each in measured
            for visit in getattr(each, name)
        )
        for name in ("visits", "reference_visits")
    }
    return replace(first, session="all", visits=visits["visits"], reference_visits=visits["reference_visits"])


def _mean_of_openings(measured: Measurement) -> Interval:
    """Overhead as the mean of the openings' medians, without the fifth at either end, with a 95 % bootstrap interval.

    What openings are off is spread evenly rather than heaped in the middle, of which a median of all rounds knows less.
    """
    logs, openings = np.log(measured.ratios), measured.openings
    medians = np.array([np.median(logs[openings == each]) for each in np.unique(openings)])
    drawn = np.random.default_rng(0).choice(medians, (2000, len(medians)))
    lower, upper = np.percentile(trim_mean(drawn, TRIMMED, axis=1), [2.5, 97.5])
    return Interval(*(float(np.expm1(each)) for each in (lower, trim_mean(medians, TRIMMED), upper)))


def _narrow(rows: Sequence[dict[str, Any]]) -> bool:
    """Whether every interval is narrow enough; ranks of static adapters are programs of their own."""
    if not rows or _failed(rows):
        return False
    steps = [row["rank_half_width"] for row in rows if row["rank_half_width"] and row["mode"] == "swappable"]
    widths = [row["half_width"] for row in rows]
    return max(steps, default=0.0) <= RANK_HALF_WIDTH and max(widths) <= HALF_WIDTH


def _failed(rows: Sequence[dict[str, Any]]) -> bool:
    return any("failure" in row for row in rows)


def _named(case: Case) -> dict[str, Any]:
    return {"placement": case.placement, "mode": case.mode, "rank": case.rank}


def _interval(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.middle, f"{name}_lower": interval.lower, f"{name}_upper": interval.upper}
