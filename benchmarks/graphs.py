"""Graphs that adaptare makes against those of onnxruntime-genai's model builder: nodes, bytes, seconds of calls.

python benchmarks/graphs.py [--json] [--blocks 6] [--beside NAME=FILE.onnx ...] [--only fp32 int4] [--cells CELL ...]
    [--files FOLDER]

SmolLM2-135M, one thread. The builder's files are made with its own command and defaults (for int4: activations rounded
to 8 bits, as `--extra_options accuracy_level=4`). Every block starts one plain process for each file, in random order
(`stock_onnx_process.py`); only what was measured within a block is compared. Ratios of medians have 95 % intervals of
Student's t over the blocks. `--beside` adds graphs of other exports, of the one precision that `--only` names, for
example of an earlier version or of optimum (`optimum-cli export onnx --optimize O2`), with a cache that is copied.

With a shared buffer, a call writes its keys and values into the buffer of the cache, as onnxruntime-genai does;
otherwise the cache is copied in every call. With large pages, all caches lie in one array. The builder computes logits
of every position in a prefill, and adaptare of the last one, so its prefill takes longer.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from scipy import stats

from adaptare.profiler import Workload, open_model
from adaptare.profiler.programs.onnx.bases import OnnxBases
from adaptare.profiler.programs.onnx.surgery import weight_bytes

MODEL, LEVEL = "smollm2-135m", 0.95
PRECISIONS = {"fp32": "none", "int4": "int4"}
AFTER = {
    past: ("--tokens", "1", "--past", f"{past}", "--calls", f"{calls}")
    for past, calls in ((64, 30), (1024, 20), (4096, 20))
}
SHARED = "--share-buffer"
CELLS = {
    **{f"decode after {past}": call for past, call in AFTER.items()},
    **{f"decode after {past}, shared buffer": (*call, SHARED) for past, call in AFTER.items()},
    "decode after 4096, shared buffer, large pages": (*AFTER[4096], SHARED, "--large-pages"),
    "prefill of 64": ("--tokens", "64", "--calls", "8"),
    "prefill of 512": ("--tokens", "512", "--calls", "3", "--warm-up", "1"),
}
PROCESS = Path(__file__).parent / "stock_onnx_process.py"


def built(source: Path, precision: str, folder: Path) -> Path:
    """The file that the builder's own command makes."""
    target = folder / f"builder-{precision}"
    if not (target / "model.onnx").exists():
        words = ["-i", str(source), "-o", str(target), "-p", precision, "-e", "cpu", "-c", str(folder / "cache")]
        if precision == "int4":
            words += ["--extra_options", "accuracy_level=4"]
        command = [sys.executable, "-m", "onnxruntime_genai.models.builder", *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return target / "model.onnx"


def described(file: Path) -> dict[str, int]:
    model = onnx.load(file, load_external_data=False)
    return {"nodes": len(model.graph.node), "bytes": weight_bytes(model)}


def seconds(arguments: Sequence[str]) -> float:
    """Median of the calls of a plain process."""
    done = subprocess.run([sys.executable, str(PROCESS), *arguments], check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout)["median_s"])


def compared(runs: Mapping[str, Sequence[str]], reference: str, blocks: int) -> dict[str, Any]:
    """Seconds of every run, by the arguments of its process, and its ratio to the reference with an interval."""
    random = np.random.default_rng(0)
    rows = []
    for _ in range(blocks):
        order = random.permutation(list(runs))
        rows.append({name: seconds(runs[name]) for name in order})
    return ratios_of(rows, reference)


def ratios_of(rows: Sequence[Mapping[str, float]], reference: str) -> dict[str, Any]:
    """Median seconds of every name, and its ratio to the reference with an interval over the rows."""
    found: dict[str, Any] = {}
    for name in rows[0]:
        ratios = np.log([row[name] / row[reference] for row in rows])
        half = stats.t.ppf((1 + LEVEL) / 2, len(rows) - 1) * ratios.std(ddof=1) / len(rows) ** 0.5
        middle = ratios.mean()
        interval = [float(np.exp(value)) for value in (middle - half, middle, middle + half)]
        found[name] = {"median_s": float(np.median([row[name] for row in rows])), "ratio": interval}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--blocks", type=int, default=6, help="at least 4")
    parser.add_argument("--beside", nargs="+", default=[])
    parser.add_argument("--only", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS))
    parser.add_argument("--files", type=Path, help="folder that keeps the builder's files")
    options = parser.parse_args()
    if options.blocks < 4:
        parser.error("--blocks must be at least 4")
    if options.beside and len(options.only) > 1:
        parser.error("--beside adds graphs of one precision; name it with --only")
    if wrong := [each for each in options.beside if not Path(each.partition("=")[2]).is_file()]:
        parser.error(f"--beside takes NAME=FILE.onnx with a file that is there, not {wrong[0]}")

    source = open_model(MODEL)
    bases, result = OnnxBases(weights=source), dict[str, Any]()
    with tempfile.TemporaryDirectory() as place:
        folder = options.files or Path(place)
        for precision in options.only:
            ours = bases.base(Workload(source.shape, quantisation=PRECISIONS[precision]))
            files = {"builder": built(source.folder, precision, folder), "adaptare": ours.packed}
            files |= {name: Path(file) for name, file in (each.split("=", 1) for each in options.beside)}
            cells = {}
            for cell in options.cells:
                call = CELLS[cell]
                named = [name for name in files if SHARED not in call or name in ("builder", "adaptare")]
                runs = {name: (str(files[name]), *call) for name in named}
                cells[cell] = compared(runs, "builder", options.blocks)
            result[precision] = {"files": {name: described(file) for name, file in files.items()}, "cells": cells}
    if options.json:
        print(json.dumps(result))
        return
    for precision, found in result.items():
        for name, file in found["files"].items():
            print(f"{precision} {name}: {file['nodes']:,} nodes, {file['bytes'] / 1e6:.0f} MB")
        for cell, rows in found["cells"].items():
            for name, row in rows.items():
                lower, middle, upper = row["ratio"]
                interval, milliseconds = f"[{lower:.3f}, {upper:.3f}]", 1e3 * row["median_s"]
                print(f"{precision} {cell:45} {name:9} {milliseconds:8.2f} ms {middle:.3f} {interval}")


if __name__ == "__main__":
    main()
