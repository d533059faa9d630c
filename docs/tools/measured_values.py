"""Measured numbers inside sentences: name -> text, from the outputs that `benchmarks/measured` keeps."""

from collections.abc import Callable
from typing import Any

import numpy as np
from measured_tables import kept, middle_first, percent, reordered, value
from overhead_tables import decode_rows
from scipy import stats


def _constant(task: str) -> tuple[float, ...]:
    """Loss of a constant on a task, nats per token: middle, lower and upper end."""
    return tuple(kept("constants")["constant"][task]["loss"])


def _looked_at() -> list[float]:
    """Share of the rows held in each of the six pairs, after a look at the base; smallest first."""
    found = kept("decisions")["after"]["kept"]["recalibrated"]["ms"]["ms_interval_held"]
    return sorted(found["by_session"].values())


def _ratio_beside_earlier(cell: str) -> str:
    """Time of our 4-bit graph over that of the builder's, in the run with earlier graphs."""
    lower, middle, upper = kept("graphs")["int4 with earlier"]["cells"][cell]["adaptare"]["ratio"]
    return value((middle, lower, upper), 2)


def _beside_winner(name: str, part: float, placement: str) -> tuple[float, ...]:
    """Difference of a placement's loss to that of the winner, nats: middle, lower and upper end."""
    (row,) = (row for row in kept(name)["rows"] if (row["part"], row["name"]) == (part, placement))
    return reordered(row["difference"])


def _overheads(file: str, name: str, part: float) -> dict[str, Any]:
    """Measured overhead of a placement in the first training, and what was predicted, as shares."""
    rows = kept(file)["rows"]
    return next(row for row in rows if (row["seed"], row["part"], row["name"]) == (0, part, name))


def _predicted(file: str, name: str, part: float) -> str:
    """Upper end of a predicted overhead."""
    return f"{100 * _overheads(file, name, part)['predicted']:.1f} %"


def _exact_same() -> str:
    """How often steps from the largest find the exact optimum."""
    rows = [row for row in kept("search_exact")["rows"] if row["estimates"] == "at the largest"]
    return f"{sum(row['changed'] == 0 for row in rows)} of {len(rows)}"


def _exact_worse() -> str:
    """How often the exact optimum at what was found is worse on the examples of its estimates."""
    rows = [row for row in kept("search_exact")["rows"] if row["estimates"] == "at what was found"]
    return f"{sum(row['true']['exact'] > 0 for row in rows)} of {len(rows)}"


def _validation_examples() -> str:
    """Least and largest number of validation examples of a choice."""
    counts = {row["validation_examples"] for row in kept("search_choice")["rows"]}
    return f"{min(counts)} to {max(counts)}"


def _costs_half_width() -> str:
    """Median half-width of the measured overheads in the comparison of costs, in points."""
    ends = [row["overhead"] for row in kept("search_costs")["rows"]]
    return f"{100 * np.median([(upper - lower) / 2 for _, lower, upper in ends]):.0f}"


def _proxy_beside_latency(name: str, proxy: str, part: float) -> str:
    """Loss that shrinking by a count of linears or parameters has beyond shrinking by latency, over trainings."""
    losses = [{row["name"]: row["loss"] for row in seed if row["part"] == part} for seed in kept(name)["by_seed"]]
    more = np.array([each[f"staged-fisher by {proxy}"] - each["staged-fisher"] for each in losses])
    return value(_mean(more), 3, "+")


def _mean(values: Any) -> tuple[float, float, float]:
    """Mean of repeats with its 95 % interval (Student's t): middle, lower and upper end."""
    middle, half = float(values.mean()), float(stats.sem(values) * stats.t.ppf(0.975, len(values) - 1))
    return middle, middle - half, middle + half


def _half_width(file: str) -> str:
    """Median half-width of the measured overheads of all placements, in points."""
    ends = {tuple(row["overhead"]) for row in kept(file)["rows"]}
    return f"{100 * np.median([(upper - lower) / 2 for _, lower, upper in ends]):.0f}"


def _order(name: str, digits: int) -> str:
    """A value of the order of placements, as slices and trained alone."""
    (order,) = kept("search_order")["orders"]
    return value(reordered(order[name]), digits)


def _by_hand(training: str) -> str:
    """Loss of all linears of every third layer minus that of what staged shrinking found, on a Xeon."""
    (row,) = (row for row in kept("search_order_rules")["rows"] if row["name"] == "all linears")
    return value(reordered(row["to_start"][training]), 3, "+")


def _slower_steps() -> str:
    """Decode steps of the bases on a Xeon, over those on an EPYC: the least and the largest ratio."""
    here, there = ({base: rows[0][2] for base, rows in decode_rows(each).items()} for each in ("", "_intel"))
    ratios = [seconds / here[base] for base, seconds in there.items()]
    return f"{min(ratios):.1f} to {max(ratios):.1f}"


def _torch_again() -> str:
    """Overhead of rank 16 on all linears in PyTorch, in another session on the Xeon."""
    (device,) = kept("overhead_table_intel_again")
    cells = {(row["mode"], row["placement"], row["rank"]): row["over_base"] for row in device["rows"]}
    return percent(middle_first(cells["swappable", "all", 16]))


def _after_a_text() -> str:
    """Points that swappable adapters on all linears add to OpenVINO's prefill after a generated text, beyond others."""
    cell = "all linears, rank 16, swappable"
    stock = [block["stock"] for block in kept("openvino_stock")["blocks"]]
    more = np.array([each[f"prefill after a text, {cell}"] - each[f"prefill, {cell}"] for each in stock])
    return value(_mean(100 * more), 1)


VALUES: dict[str, Callable[[], str]] = {
    "toy-program-s": lambda: f"{kept('profiling')['detect_5pct_seconds']['value']['median']:.1f} s",
    "search-gain-budget": lambda: f"{1e3 * kept('demo_search')['limit']:.2f} ms",
    "choice-examples": _validation_examples,
    "exact-same": _exact_same,
    "exact-worse": _exact_worse,
    "latency-half-width": lambda: _half_width("search_latency"),
    "dialogues-half-width": lambda: _half_width("search_latency_dialogues"),
    "costs-half-width": _costs_half_width,
    "latency-mlps": lambda: percent(_overheads("search_latency", "MLPs", 0.5)["overhead"]),
    "latency-mlps-predicted": lambda: _predicted("search_latency", "MLPs", 0.5),
    "dialogues-mlps-overhead": lambda: percent(_overheads("search_latency_dialogues", "MLPs", 0.5)["overhead"]),
    "dialogues-mlps-predicted": lambda: _predicted("search_latency_dialogues", "MLPs", 0.5),
    "compute-whole": lambda: f"{kept('search_compute')['whole']:.1f}",
    "compute-search": lambda: f"{kept('search_compute')['search']:.1f}",
    "compute-evaluated": lambda: str(kept("search_compute")["evaluated"]),
    "dialogues-mlps": lambda: value(_beside_winner("search", 0.5, "MLPs"), 3, "+"),
    "dialogues-mlps-quarter": lambda: value(_beside_winner("search", 0.25, "MLPs"), 3, "+"),
    "dialogues-random": lambda: value(_beside_winner("search", 0.5, "random search"), 3, "+"),
    "dialogues-random-quarter": lambda: value(_beside_winner("search", 0.25, "random search"), 3, "+"),
    "dialogues-adalora-quarter": lambda: value(_beside_winner("search", 0.25, "AdaLoRA"), 3, "+"),
    "dialogues-linears-quarter": lambda: _proxy_beside_latency("search", "linears", 0.25),
    "dialogues-linears": lambda: _proxy_beside_latency("search", "linears", 0.5),
    "dialogues-parameters-most": lambda: _proxy_beside_latency("search", "parameters", 0.75),
    "questions-all-linears": lambda: value(_beside_winner("search_questions", 0.5, "all linears"), 3, "+"),
    "questions-random": lambda: value(_beside_winner("search_questions", 0.25, "random search"), 3, "+"),
    "questions-linears-quarter": lambda: _proxy_beside_latency("search_questions", "linears", 0.25),
    "questions-linears": lambda: _proxy_beside_latency("search_questions", "linears", 0.5),
    "search-torch-linears": lambda: value(_beside_winner("search_torch", 0.25, "staged-fisher by linears"), 3, "+"),
    "order-tau": lambda: _order("tau", 2),
    "order-survives": lambda: _order("survives", 2),
    "order-gain-slice": lambda: _order("gain_of_slices", 3),
    "order-by-hand": lambda: _by_hand("share"),
    "order-by-hand-alone": lambda: _by_hand("alone"),
    "order-gain-alone": lambda: _order("gain_alone", 3),
    "xeon-slower": _slower_steps,
    "xeon-torch-again": _torch_again,
    "regret-budget": lambda: f"{100 * kept('runtime_regret')['budget']:.1f} %",
    "regret-nats": lambda: value(middle_first(kept("runtime_regret")["regret_nats"]), 3),
    "regret-noise": lambda: f"{kept('search_regret')['noise']:g} nats",
    "constant-two-tasks": lambda: value(_constant("ARC-Easy and boolq"), 3),
    "constant-gsm8k": lambda: f"{_constant('GSM8K')[0]:.2f}",
    "held-after-look": lambda: f"{_looked_at()[0]:.2f}",
    "graph-beside-earlier": lambda: _ratio_beside_earlier("decode after 1024"),
    "openvino-after-text": _after_a_text,
    "fuzzed-parsers": lambda: str(len(kept("fuzz")["parsers"])),
    "bad-inputs": lambda: f"{kept('robustness')['bad_inputs']:,}",
    "faults": lambda: f"{kept('robustness')['faults_injected']:,}",
}
