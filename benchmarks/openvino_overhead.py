"""Overhead of adapters in OpenVINO, as the command tells it and as plain processes take.

python benchmarks/openvino_overhead.py [--json] [--out FILE] [--weights int4] [--seconds 20] [--openings 4]

Runs `adaptare overhead` on SmolLM2-135M for two ranks on all linears, and on q and v.

python benchmarks/openvino_overhead.py --stock 8 [--json] [--out FILE] [--weights int4]

compares the command with a loop over `infer` (`stock_openvino_process.py`) instead, in blocks (`stock_blocks.py`): the
larger rank, in states and as constants. `--out` keeps all blocks, and adds to those that it has.
"""

import argparse
import datetime
import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from stock_blocks import BASE, Block, cell, compared, lines, measured_block
from stock_process import adaptare

from adaptare.devices import connect
from adaptare.devices.agent import openvino_runtime
from adaptare.profiler import Configuration, Mode, Workload, open_model, programs_for

MODEL, RANKS, TOKENS = "smollm2-135m", (1, 16), 64
PLACEMENTS = {"all": "all linears", "q_proj,v_proj": "q and v"}
MODES: tuple[Mode, ...] = ("swappable", "static")


def measured(weights: str, seconds: float, openings: int, ranks: Sequence[int] = RANKS) -> list[dict[str, Any]]:
    """Rows of the command."""
    words = ["overhead", MODEL, "--device", f"openvino-cpu:{weights},threads=1", "--json", "--seconds", f"{seconds:g}"]
    words += ["--rank", ",".join(map(str, ranks)), "-p", str(TOKENS), "-d", str(TOKENS), "--openings", str(openings)]
    words += [word for sites in PLACEMENTS for word in ("--sites", sites)]
    with tempfile.TemporaryDirectory() as folder:
        printed = json.loads(adaptare(*words, "--store", str(Path(folder) / "store.db")))
    return [
        {
            **{name: row[name] for name in ("phase", "rank", "mode", "base_s", "openings")},
            "sites": row["placement"],
            "overhead": row["over_base"]["middle"],
            "lower": row["over_base"]["lower"],
            "upper": row["over_base"]["upper"],
        }
        for row in printed["rows"]
    ]


def process_of(workload: Workload, weights: Any, file: Path) -> list[str]:
    """A plain process: a graph, which is written with the adapter of a workload, and the values of its states."""
    program = programs_for(connect("openvino-cpu:threads=1").info(), weights=weights).program(workload)
    runtime = openvino_runtime.OpenvinoRuntime()
    runtime.setup(1, {})
    graph = runtime.graph(str(program.files[0].path), json.loads(program.arguments))
    openvino.save_model(graph, file, compress_to_fp16=False)
    words = ["stock_openvino_process.py", str(file), "--length", str(TOKENS)]
    if not (states := json.loads(program.feeds[0].arguments).get("adapter", {})):
        return words
    np.savez(file.with_suffix(".npz"), **openvino_runtime.states(states))
    return [*words, "--states", str(file.with_suffix(".npz"))]


def plain_processes(weights: str, folder: Path) -> dict[str, list[str]]:
    """Plain processes of the base and of the larger rank, by placement and mode."""
    source = open_model(MODEL)
    base = Workload(source.shape, quantisation=weights)
    found = {BASE: process_of(base, source, folder / "base.xml")}
    for sites in PLACEMENTS:
        chosen = [site.path for site in source.shape.sites if sites == "all" or site.kind in sites.split(",")]
        adapted = base.with_configuration(Configuration.of(dict.fromkeys(chosen, RANKS[-1])))
        for mode in MODES:
            file = folder / f"{mode}-{len(chosen)}.xml"
            found[adapter(mode, sites)] = process_of(replace(adapted, mode=mode), source, file)
    return found


def adapter(mode: str, sites: str) -> str:
    """Name of an adapter of the larger rank."""
    return f"{PLACEMENTS[sites]}, rank {RANKS[-1]}, {mode}"


def stock(options: argparse.Namespace, facts: dict[str, Any]) -> dict[str, Any]:
    """Blocks of the command, with one opening in each, and of plain processes."""

    def command() -> dict[str, float]:
        rows = measured(options.weights, options.seconds, 1, RANKS[-1:])
        return {cell(row["phase"], adapter(row["mode"], row["sites"])): row["overhead"] for row in rows}

    with tempfile.TemporaryDirectory() as place:
        processes = plain_processes(options.weights, Path(place))

        def block(seed: int) -> Block:
            return measured_block(command, processes, seed)

        return compared(facts, block, options.stock, options.out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--weights", default="int4", choices=("int4", "int8"))
    parser.add_argument("--seconds", type=float, default=20.0, help="for each phase and opening, loading included")
    parser.add_argument("--openings", type=int, default=4)
    parser.add_argument("--stock", type=int, metavar="BLOCKS", help="compares with plain processes")
    options = parser.parse_args()

    info = connect("openvino-cpu:threads=1").info()
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    facts = {"hardware": info.hardware, "runtime": info.runtime, "weights": options.weights, "date": today}
    if options.stock:
        both = stock(options, {**facts, "openings": 1})
        print(json.dumps(both) if options.json else "\n".join(lines(both)))
        return
    found = {"facts": facts, "rows": measured(options.weights, options.seconds, options.openings)}
    if options.out:
        options.out.write_text(json.dumps(found, indent=1), encoding="utf-8")
    if options.json:
        print(json.dumps(found))
        return
    for row in found["rows"]:
        print(
            f"{row['phase']:7} {row['mode']:9} {row['sites']:13} rank {row['rank']:2} {100 * row['overhead']:+.1f} % "
            f"[{100 * row['lower']:.1f}, {100 * row['upper']:.1f}]"
        )


if __name__ == "__main__":
    main()
