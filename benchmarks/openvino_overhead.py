"""Overhead of adapters in OpenVINO, as the command tells it and as plain processes take.

python benchmarks/openvino_overhead.py [--json] [--out FILE] [--weights int4] [--seconds 20] [--rounds 3]

Runs `adaptare overhead` on SmolLM2-135M for two ranks on all linears, and on q and v; and, in turn with the base, plain
processes of a loop over `infer` (`stock_openvino_process.py`) for the larger rank on all linears, with the adapter in
states and as constants. The overhead of plain processes is the median of their ratios to the base of the same round.
"""

import argparse
import datetime
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from adaptare.devices import connect
from adaptare.devices.agent import openvino_runtime
from adaptare.profiler import Configuration, Mode, Workload, open_model, programs_for

MODEL, RANKS, TOKENS = "smollm2-135m", (1, 16), 64
PLACEMENTS = ("all", "q_proj,v_proj")
MODES: tuple[Mode, ...] = ("swappable", "static")


def measured(weights: str, seconds: float) -> list[dict[str, Any]]:
    """Rows of the command."""
    words = ["overhead", MODEL, "--device", f"openvino-cpu:{weights},threads=1", "--json", "--seconds", f"{seconds:g}"]
    words += [*("--rank", ",".join(map(str, RANKS))), "-p", str(TOKENS), "-d", str(TOKENS), "--openings", "4"]
    words += [word for sites in PLACEMENTS for word in ("--sites", sites)]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "adaptare", *words, "--store", str(Path(folder) / "store.db")]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [
        {
            **{name: row[name] for name in ("phase", "rank", "mode", "base_s", "openings")},
            "sites": row["placement"],
            "overhead": row["over_base"]["middle"],
            "lower": row["over_base"]["lower"],
            "upper": row["over_base"]["upper"],
        }
        for row in json.loads(done.stdout)["rows"]
    ]


def graph_of(workload: Workload, weights: Any, folder: Path) -> list[str]:
    """Words of a plain process: a graph with the adapter of a workload, and the values of its states."""
    device = connect("openvino-cpu:threads=1")
    program = programs_for(device.info(), weights=weights).program(workload)
    runtime = openvino_runtime.OpenvinoRuntime()
    runtime.setup(1, {})
    graph = runtime.graph(str(program.files[0].path), json.loads(program.arguments))
    file = folder / f"{workload.mode}-{len(workload.configuration.ranks)}.xml"
    openvino.save_model(graph, file, compress_to_fp16=False)
    adapter = json.loads(program.feeds[0].arguments).get("adapter", {})
    if not adapter:
        return [str(file)]
    np.savez(file.with_suffix(".npz"), **openvino_runtime.states(adapter))
    return [str(file), "--states", str(file.with_suffix(".npz"))]


def plain(weights: str, rounds: int) -> list[dict[str, Any]]:
    """Rows of plain processes, which run in turn with one of the base."""
    source = open_model(MODEL)
    whole, base = Configuration.uniform(source.shape, RANKS[-1]), Workload(source.shape, quantisation=weights)
    rows = []
    with tempfile.TemporaryDirectory() as place:
        graphs = {"base": graph_of(base, source, Path(place))}
        for mode in MODES:
            workload = Workload(source.shape, whole, mode=mode, quantisation=weights)
            graphs[mode] = graph_of(workload, source, Path(place))
        for phase, sizes in (("prefill", ("--tokens", TOKENS, "--calls", 12)), ("decode", ("--past", TOKENS))):
            found: dict[str, list[float]] = {name: [] for name in graphs}
            for _ in range(rounds):
                for name, words in graphs.items():
                    script = Path(__file__).with_name("stock_openvino_process.py")
                    command = [sys.executable, str(script), *words, *map(str, sizes)]
                    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                    found[name].append(statistics.median(json.loads(done.stdout)))
            for mode in MODES:
                ratios = [own / base_s - 1 for own, base_s in zip(found[mode], found["base"], strict=True)]
                same = {"phase": phase, "rank": RANKS[-1], "sites": "all", "mode": mode}
                rows.append({**same, "overhead": statistics.median(ratios), "each": ratios, "base_s": found["base"]})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--weights", default="int4", choices=("int4", "int8"))
    parser.add_argument("--seconds", type=float, default=20.0, help="for each phase and opening, loading included")
    parser.add_argument("--rounds", type=int, default=3, help="of plain processes")
    options = parser.parse_args()

    info = connect("openvino-cpu:threads=1").info()
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    facts = {"hardware": info.hardware, "runtime": info.runtime, "weights": options.weights, "date": today}
    found = {
        "facts": facts,
        "plain": plain(options.weights, options.rounds),
        "rows": measured(options.weights, options.seconds),
    }
    if options.out:
        options.out.write_text(json.dumps(found, indent=1), encoding="utf-8")
    if options.json:
        print(json.dumps(found))
        return
    for name in ("rows", "plain"):
        for row in found[name]:
            interval = f" [{100 * row['lower']:.1f}, {100 * row['upper']:.1f}]" if "lower" in row else ""
            print(
                f"{name:5} {row['phase']:7} {row['mode']:9} {row['sites']:13} rank {row['rank']:2} "
                f"{100 * row['overhead']:+.1f} %{interval}"
            )


if __name__ == "__main__":
    main()
