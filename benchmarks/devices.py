"""Overhead of the same adapters on every device that can be reached from here, side by side.

python benchmarks/devices.py [--json] [--device SPELLING ...] [--model smollm2-135m] [--seconds 60] [--figure FILE]

Ranks 8 and 32 on q and v, and on all linears, in prefill of 64 tokens and in decode after 64, as `adaptare overhead`
measures them; rank 0 is the base. Without `--device`, every device that `adaptare devices` lists, with one thread where
it has threads; name others, such as `ssh://board/ort-cpu` or `browser:phone`, by `--device`. A device that cannot be
reached, or measured, is listed with the reason. Where a device does not hold the whole model, it is composed of stubs.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adaptare.devices.registry import Reach, reachable

RANKS, PLACEMENTS, LENGTH = (8, 32), ("q_proj,v_proj", "all"), 64
TOO_LARGE = "compose it from stubs"


def measured(device: str, model: str, seconds: float, *, stubs: bool = False) -> dict[str, Any]:
    """One device: its rows, or why there are none."""
    words = ["overhead", model, "--device", device, "--rank", ",".join(map(str, RANKS)), "--json"]
    words += [word for sites in PLACEMENTS for word in ("--sites", sites)]
    words += ["-p", str(LENGTH), "-d", str(LENGTH), "--seconds", f"{seconds:g}", *(["--stubs"] if stubs else [])]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "adaptare", *words, "--store", str(Path(folder) / "store.db")]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        answer = {"error": f"the command ended with exit code {done.returncode} and printed no result"}
    if "error" in answer:
        if TOO_LARGE in answer["error"] and not stubs:
            return measured(device, model, seconds, stubs=True)
        return {"name": device, "available": False, "why": answer["error"], "rows": []}
    failures = [f"{each['mode']} r{each['rank']}: {each['reason']}" for each in answer["failures"]]
    rows = [row_of(row) for row in answer["rows"]]
    base = {(row["phase"], row["base"]): base_row(row) for row in rows}
    return {"name": device, "available": True, "why": "; ".join(failures), "rows": [*base.values(), *rows]}


def row_of(row: dict[str, Any]) -> dict[str, Any]:
    """What all devices have in common, of a row of the command."""
    return {
        "base": row["base_s"],
        "mode": row["mode"],
        "phase": row["phase"],
        "rank": row["rank"],
        "sites": row["placement"],
        "latency_s": row["latency_s"],
        "overhead": row["overhead"],
        "lower": row["overhead_lower"],
        "upper": row["overhead_upper"],
        "origin": row["origin"],
    }


def base_row(row: dict[str, Any]) -> dict[str, Any]:
    """The base without adapter, which every overhead is relative to."""
    none = {"mode": "base", "rank": 0, "sites": "none", "overhead": 0.0, "lower": 0.0, "upper": 0.0}
    return {**row, **none, "latency_s": row["base"]}


def spellings(found: Sequence[Reach]) -> list[str]:
    """Devices of this machine, one thread each; the simulated one says nothing of it."""
    return [f"{each.name}:threads=1" for each in found if each.info is not None and each.name != "simulated"]


def table(devices: Sequence[dict[str, Any]]) -> str:
    """Markdown: a line for each device, phase and placement, with the unmerged overhead by rank."""
    lines = [
        f"| device | phase | adapter on | base, ms | {' | '.join(f'rank {rank}' for rank in RANKS)} |",
        "|---" * (4 + len(RANKS)) + "|",
    ]
    for device in devices:
        unmerged = [row for row in device["rows"] if row["mode"] == "swappable"]
        for phase, sites in dict.fromkeys((row["phase"], row["sites"]) for row in unmerged):
            here = {row["rank"]: row for row in unmerged if (row["phase"], row["sites"]) == (phase, sites)}
            cells = [f"{row['overhead']:+.1%} [{row['lower']:.1%}, {row['upper']:.1%}]" for row in here.values()]
            base_ms = 1e3 * next(iter(here.values()))["base"]
            lines.append(f"| {device['name']} | {phase} | {sites} | {base_ms:.4g} | {' | '.join(cells)} |")
        if not device["available"]:
            lines.append(f"| {device['name']} | {device['why']} |" + " |" * (2 + len(RANKS)))
    return "\n".join(lines)


def draw(devices: Sequence[dict[str, Any]], file: Path) -> None:
    """One panel for each phase: overhead of swappable adapters on all linears, by device and rank."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    phases = ("prefill", "decode")
    figure, axes = pyplot.subplots(1, len(phases), figsize=(6 * len(phases), 4), sharey=True)
    names = [device["name"] for device in devices if device["rows"]]
    for axis, phase in zip(axes, phases, strict=True):
        for shift, rank in zip((-0.15, 0.15), RANKS, strict=True):
            for place, name in enumerate(names):
                rows = next(device["rows"] for device in devices if device["name"] == name)
                for row in rows:
                    if (row["mode"], row["phase"], row["sites"], row["rank"]) == ("swappable", phase, "all", rank):
                        middle, ends = 100 * row["overhead"], (100 * row["lower"], 100 * row["upper"])
                        errors = [[max(0.0, middle - ends[0])], [max(0.0, ends[1] - middle)]]
                        colour = f"C{RANKS.index(rank)}"
                        axis.errorbar(middle, place + shift, xerr=errors, fmt="o", color=colour, capsize=3)
        axis.axvline(0, color="grey", linewidth=0.8)
        axis.set(title=phase, xlabel="overhead on all linears, %", yticks=range(len(names)), yticklabels=names)
    figure.tight_layout()
    figure.savefig(file, dpi=120)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--device", action="append", metavar="SPELLING", help="instead of all that are listed")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each phase, loading included")
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()

    found = [] if options.device else reachable()
    devices = [measured(device, options.model, options.seconds) for device in options.device or spellings(found)]
    devices += [
        {"name": each.name, "available": False, "why": each.problem, "rows": []} for each in found if each.info is None
    ]
    if options.figure:
        draw(devices, options.figure)
    print(json.dumps({"devices": devices}) if options.json else table(devices))


if __name__ == "__main__":
    main()
