"""Overheads of the command beside those of plain processes; for llama_overhead.py and openvino_overhead.py.

A block is a run of the command, and fresh plain processes, each beside memory that another process holds
(`stock_memory.py`): one of each adapter, in random order, and one of the base before and after each. An overhead is to
the mean of these two, so that a slow machine or a slow base moves few cells. Blocks are the independent samples, and
none is left out. A cell agrees if the 95 % interval of its difference over blocks is within 3 points.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from stock_memory import drawn_size, memory_held
from stock_process import overhead_agreement, plain, say

# Name of the base among the plain processes.
BASE = ""
# Overheads by side, `ours` and `stock`, and cell. Plain processes may have more cells.
Block = dict[str, dict[str, float]]


def cell(phase: str, adapter: str) -> str:
    """Name of a comparison."""
    return f"{phase}, {adapter}"


def measured_block(command: Callable[[], dict[str, float]], processes: Mapping[str, Sequence[str]], seed: int) -> Block:
    """One block.

    Args:
        command: Runs the command; its overheads by cell.
        processes: Script and arguments of plain processes by adapter, and of the base. Each prints seconds by phase.
        seed: Of the order, and of the memory that is held.
    """
    rng = np.random.default_rng(seed)

    def ours() -> dict[str, float]:
        with memory_held(drawn_size(rng)):
            return command()

    def process(name: str) -> dict[str, float]:
        with memory_held(drawn_size(rng)):
            return plain(processes[name], ())

    def stock() -> dict[str, float]:
        found, before = {}, process(BASE)
        for name in rng.permutation([each for each in processes if each != BASE]).tolist():
            adapted, after = process(name), process(BASE)
            for phase, seconds in adapted.items():
                found[cell(phase, name)] = 2 * seconds / (before[phase] + after[phase]) - 1
            before = after
        return found

    sides = {"ours": ours, "stock": stock}
    return {name: sides[name]() for name in rng.permutation(list(sides))}


def agreement(blocks: Sequence[Block]) -> list[dict[str, Any]]:
    """Difference of the command from plain processes in each cell, with its 95 % interval over blocks."""
    rows = []
    for name in blocks[0]["ours"]:
        ours, stock = (np.array([block[side][name] for block in blocks]) for side in ("ours", "stock"))
        rows.append(overhead_agreement(name, ours, stock))
    return rows


def compared(facts: dict[str, Any], measure: Callable[[int], Block], blocks: int, out: Path | None) -> dict[str, Any]:
    """Measures blocks by their seeds, and adds them to those of a file, which is written after each."""
    found: dict[str, Any] = {"facts": facts, "blocks": []}
    if out and out.exists():
        found = json.loads(out.read_text(encoding="utf-8"))
        if "blocks" not in found or {**found["facts"], "date": ""} != {**facts, "date": ""}:
            raise SystemExit(f"{out} must have blocks of {facts}; it has other results, so name another file")
    for number in range(blocks):
        say(f"block {number + 1} of {blocks}")
        found["blocks"].append(measure(len(found["blocks"])))
        if len(found["blocks"]) > 1:
            found["cells"] = agreement(found["blocks"])
        if out:
            out.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return found


def lines(found: Mapping[str, Any]) -> list[str]:
    """One line for each cell."""
    return [
        "{}: overhead {:+.1f} %, plain process {:+.1f} %, difference {:+.1f} points [{:+.1f}, {:+.1f}]".format(
            row["cell"],
            *(100 * row[name] for name in ("overhead", "stock_overhead", "difference", "lower", "upper")),
        )
        + ("" if row["equivalent"] else ": NOT SHOWN to be within 3")
        for row in found.get("cells", ())
    ]
