"""Agreement of `adaptare overhead` with plain processes that import nothing of adaptare: overhead and base seconds.

python benchmarks/stock_process.py [--json] [--only CELL ...] [--blocks 8] [--threads 1] [--files FOLDER]
    [--processor N] [--quick]

Cells are RUNTIME/MODE/PHASE on SmolLM2-135M, with an adapter of rank 16 on all 210 linears that PEFT saved: decode of
one token with 64 cached, prefill of 64. Plain processes load files that `adaptare export` wrote; the base of ONNX
Runtime is the merged export of an adapter that changes nothing. Their scripts are `stock_onnx_process.py`, which binds
inputs and outputs, adapters among them (see there for the reason), `stock_torch_process.py`, and
`stock_genai_process.py`, the loop of a user of onnxruntime-genai. In decode with ONNX Runtime, the file that
onnxruntime-genai's model builder makes with its own command runs in a plain process too (`builder_ratio`: base seconds
of the command over its seconds).

A block is a fresh plain process of the base and of each mode, and a run of `adaptare overhead`, in random order; there
are at least eight blocks. A machine drifts by some per cent within minutes, so only what was measured within one block
is compared, and blocks are the independent samples: differences have 95 % intervals of Student's t over them, and none
is left out. Cells of one runtime and phase share their blocks, as the command measures all modes at once.

A cell agrees if its whole interval is within 3 points of overhead, and within 5 % of base seconds. Zero inside a wide
interval is no agreement. The goal is that 9 of the 10 cells agree in each; a cell that could not be measured does not.

A process gets the pages that the one before it freed, so plain processes in a row would all be timed on the same piece
of memory. Beside each process and each run of the command, another one holds a random amount of memory, up to half of
what is free: every one draws its own pages, as on a machine that runs other things (`stock_memory.py`).

Processors of a guest may differ by some per cent, as one of them serves the interrupts, and the system places a process
that computes without a pause elsewhere than one that waits for requests. `--processor N` keeps both sides on one.
"""

import argparse
import datetime
import functools
import importlib.metadata
import itertools
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from graphs import built
from scipy import stats
from stock_memory import drawn_size, memory_held

from adaptare.profiler import open_model

MODEL, RANK, LENGTH = "smollm2-135m", 16, 64
GOAL, OF, LEVEL = 9, 10, 0.95
# Of one run of the command.
SECONDS = 15
# Largest ends of an interval: points of overhead, and share of the base's seconds.
POINTS, SHARE = 0.03, 0.05
HERE = Path(__file__).parent
DEVICES = {"torch": "torch-cpu:", "ort-fp32": "ort-cpu:", "ort-int4": "ort-cpu:int4,", "genai-int4": "ort-genai:"}
# Precision of the builder's file, in decode.
BUILDER = {"ort-fp32": "fp32", "ort-int4": "int4"}
# Of `adaptare overhead`.
ONLY_PHASE = {"decode": ("-p", "0", "-d", str(LENGTH)), "prefill": ("-p", str(LENGTH), "-d", "-1")}
# Of the plain processes.
SHAPES = {"decode": ("--tokens", "1", "--past", str(LENGTH)), "prefill": ("--tokens", str(LENGTH), "--past", "0")}
CALLS = {"decode": 60, "prefill": 8}
QUICK_CALLS, QUICK_BLOCKS, QUICK_SECONDS = 4, 2, 3
PACKAGES = ("torch", "transformers", "peft", "onnxruntime", "onnxruntime-genai", "openvino", "xllamacpp", "numpy")


@dataclass(frozen=True)
class Cell:
    """One comparison.

    Args:
        runtime: Key of `DEVICES`.
        mode: How the adapter is applied.
        phase: `decode` or `prefill`.
    """

    runtime: str
    mode: str
    phase: str

    @property
    def name(self) -> str:
        """As `--only` takes it."""
        return f"{self.runtime}/{self.mode}/{self.phase}"


# Count in the summary -> key of a cell.
AGREEMENTS = {"overheads_equivalent": "equivalent", "seconds_equivalent": "seconds_equivalent"}
CELLS = (
    Cell("torch", "swappable", "decode"),
    Cell("torch", "merged", "decode"),
    Cell("torch", "swappable", "prefill"),
    Cell("ort-fp32", "swappable", "decode"),
    Cell("ort-fp32", "merged", "decode"),
    Cell("ort-fp32", "static", "prefill"),
    Cell("ort-int4", "static", "decode"),
    Cell("ort-int4", "swappable", "prefill"),
    Cell("genai-int4", "swappable", "decode"),
    Cell("genai-int4", "swappable", "prefill"),
)


@dataclass(frozen=True)
class Files:
    """Files of the base and of the adapter in every mode, each exported when it is first asked for.

    Args:
        folder: Where they are kept.
    """

    folder: Path

    def arguments(self, runtime: str, mode: str) -> list[str]:
        """Script of a plain process and the files that it loads; `base` is a mode too."""
        if runtime == "torch":
            model = self._exported("adapter", "merged") if mode == "merged" else _weights()
            script, adapter = "stock_torch_process.py", self.peft("adapter")
        elif runtime == "genai-int4":
            model = self.genai
            script, adapter = "stock_genai_process.py", model / "adapter.onnx_adapter"
        elif mode == "builder":
            script, model, adapter = "stock_onnx_process.py", built(_weights(), BUILDER[runtime], self.folder), Path()
        else:
            kind = "onnx" if mode in ("base", "merged") else f"onnx-{mode}"
            quantise = ["--quantise", "int4"] if runtime == "ort-int4" else []
            folder = self._exported("nothing" if mode == "base" else "adapter", kind, *quantise)
            model = folder / "model.onnx"
            script, adapter = "stock_onnx_process.py", folder / "adapter.onnx_adapter"
        words = [script, str(model)]
        return [*words, "--adapter", str(adapter)] if mode == "swappable" else words

    def peft(self, name: str) -> Path:
        """Folder that PEFT saves: `adapter` has random weights on every linear, `nothing` adds zero to one of them."""
        folder = self.folder / name
        if not folder.exists():
            import torch
            from peft import LoraConfig, get_peft_model
            from transformers import AutoModelForCausalLM

            torch.manual_seed(0)
            everywhere = {"target_modules": "all-linear", "init_lora_weights": False}
            nowhere = {"target_modules": ["q_proj"], "layers_to_transform": [0]}
            config = LoraConfig(r=RANK, lora_alpha=RANK, **(everywhere if name == "adapter" else nowhere))
            model = AutoModelForCausalLM.from_pretrained(_weights(), dtype=torch.float32)
            get_peft_model(model, config).save_pretrained(folder)
        return folder

    @property
    def genai(self) -> Path:
        """Folder of onnxruntime-genai that is timed by both sides."""
        return self._exported("adapter", "genai", "--quantise", "int4")

    def _exported(self, source: str, kind: str, *options: str) -> Path:
        folder = self.folder / "-".join([source, kind, *options[1:]])
        if not folder.exists():
            say(f"exporting {folder.name}")
            adaptare("export", str(self.peft(source)), "--base", MODEL, "--to", kind, *options, "-o", str(folder))
        return folder


def main() -> None:
    options = parser().parse_args()
    cells = [cell for cell in CELLS if not options.only or cell.name in options.only]
    if options.processor is not None:
        os.sched_setaffinity(0, {options.processor})  # for every process that is started from here
    blocks = QUICK_BLOCKS if options.quick else options.blocks
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        files = Files(options.files or Path(place))
        for _, together in itertools.groupby(cells, lambda cell: (cell.runtime, cell.phase)):
            of_group = tuple(together)
            try:
                found = group(of_group, files=files, blocks=blocks, threads=options.threads, quick=options.quick)
            except RuntimeError as error:
                found = [failed(cell, str(error)) for cell in of_group]
            rows += found
            say("\n".join(map(shown, found)))
    command = shlex.join(["python", "benchmarks/stock_process.py", *sys.argv[1:]])
    result = {"command": command, **conditions(options.threads), **summary(rows)}
    print(json.dumps(result) if options.json else "\n".join([*map(shown, rows), *verdicts(result)]))


def parser() -> argparse.ArgumentParser:
    """Options of the command line."""
    names = [cell.name for cell in CELLS]
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--json", action="store_true")
    found.add_argument("--only", nargs="+", choices=names, metavar="CELL", help=f"of {', '.join(names)}")
    found.add_argument("--blocks", type=at_least_2, default=8, help="plain processes of each mode, runs of the command")
    found.add_argument("--threads", type=int, default=1)
    found.add_argument("--files", type=Path, help="folder that keeps the exported files for the next run")
    found.add_argument("--processor", type=int, help="runs both sides on this processor alone")
    found.add_argument("--quick", action="store_true", help="tries whether it works; its numbers say nothing")
    return found


def at_least_2(text: str) -> int:
    """A number of blocks whose spread can be seen."""
    if int(text) < 2:
        raise argparse.ArgumentTypeError(f"must be at least 2, not {text}")
    return int(text)


def group(cells: Sequence[Cell], *, files: Files, blocks: int, threads: int, quick: bool) -> list[dict[str, Any]]:
    """Cells of one runtime and phase, which share their blocks."""
    runtime, phase = cells[0].runtime, cells[0].phase
    builder = ["builder"] if phase == "decode" and runtime in BUILDER else []
    scripts = {mode: files.arguments(runtime, mode) for mode in ("base", *builder, *(cell.mode for cell in cells))}
    calls = str(QUICK_CALLS if quick else CALLS[phase])
    tail = (*SHAPES[phase], "--threads", str(threads), "--calls", calls)
    place = f"folder={files.genai}," if runtime == "genai-int4" else ""
    device, seconds = f"{DEVICES[runtime]}{place}threads={threads}", QUICK_SECONDS if quick else SECONDS
    command = ("overhead", MODEL, str(files.peft("adapter")), "--device", device, *ONLY_PHASE[phase])
    rng, started = np.random.default_rng(0), time.monotonic()
    stock: list[dict[str, float]] = []
    ours: list[dict[str, Any]] = []

    def plain_processes() -> None:
        block: dict[str, float] = {}
        for mode in rng.permutation(list(scripts)):
            with memory_held(drawn_size(rng)):
                block[mode] = plain(scripts[mode], tail)["median_s"]
        stock.append(block)

    def overhead() -> None:
        with tempfile.TemporaryDirectory() as place:
            words = (*command, "--seconds", str(seconds), "--store", f"{place}/measured.db", "--json")
            with memory_held(drawn_size(rng)):
                printed = json.loads(adaptare(*words))
        if "error" in printed:
            raise RuntimeError(printed["error"])
        ours.append(printed)

    say(f"{runtime}/{phase}: {blocks} blocks of {', '.join(scripts)} and adaptare overhead")
    for _ in range(blocks):
        for side in rng.permutation([plain_processes, overhead]):
            side()
    shared = {"blocks": blocks, "calls": int(calls), "span_s": time.monotonic() - started}
    return [row_of(cell, ours, stock) | shared for cell in cells]


def row_of(cell: Cell, ours: Sequence[dict[str, Any]], stock: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Overhead and base seconds of the command against those of plain processes, block by block.

    Args:
        cell: Of the group.
        ours: Printed by the command in each block.
        stock: Mode -> seconds of a plain process in the same block.
    """
    plain_s = {f"stock_{mode}_seconds": [block[mode] for block in stock] for mode in ("base", cell.mode)}
    rows = [row for printed in ours for row in printed["rows"] if row["mode"] == cell.mode]
    if len(rows) != len(ours):
        reasons = [each["reason"] for printed in ours for each in printed["failures"] if each["mode"] == cell.mode]
        return failed(cell, reasons[0] if reasons else f"{len(ours)} runs printed {len(rows)} rows") | plain_s
    overheads, base_s = np.array([(row["over_base"]["middle"], row["base_s"]) for row in rows]).T
    stock_base_s, stock_adapter_s = (np.array(plain_s[f"stock_{mode}_seconds"]) for mode in ("base", cell.mode))
    stock_overheads = stock_adapter_s / stock_base_s - 1
    found = {
        **overhead_agreement(cell.name, overheads, stock_overheads),
        "base_s": float(base_s.mean()),
        "stock_base_s": float(stock_base_s.mean()),
        **_ratio("seconds", base_s, stock_base_s),
        "overheads": overheads.tolist(),
        "base_seconds": base_s.tolist(),
        **plain_s,
    }
    if "builder" in stock[0]:
        builder_s = np.array([block["builder"] for block in stock])
        found |= {**_ratio("builder", base_s, builder_s), "builder_seconds": builder_s.tolist()}
    return found


def _ratio(name: str, ours_s: Any, theirs_s: Any) -> dict[str, Any]:
    """Ratio of seconds with the ends of its interval, and whether both are within the margin."""
    lower, ratio, upper = (float(value) for value in np.exp(mean_interval(np.log(ours_s / theirs_s))))
    equivalent = lower >= 1 - SHARE and upper <= 1 + SHARE
    return {f"{name}_ratio": ratio, f"{name}_lower": lower, f"{name}_upper": upper, f"{name}_equivalent": equivalent}


def overhead_agreement(cell: str, ours: Any, stock: Any) -> dict[str, Any]:
    """Overheads of the command and of plain processes by block, each of shape (n,), and whether they are equivalent."""
    lower, difference, upper = mean_interval(ours - stock)
    sides = {"overhead": float(ours.mean()), "stock_overhead": float(stock.mean())}
    ends = {"difference": difference, "lower": lower, "upper": upper}
    return {"cell": cell, **sides, **ends, "equivalent": bool(lower >= -POINTS and upper <= POINTS)}


def mean_interval(samples: Any) -> tuple[float, float, float]:
    """Mean of independent samples between the ends of its 95 % interval: lower, middle, upper. Shape (n,), n >= 2."""
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(samples) - 1) * stats.sem(samples))
    middle = float(np.mean(samples))
    return middle - half, middle, middle + half


def failed(cell: Cell, reason: str) -> dict[str, Any]:
    """A cell without numbers, which counts as one that does not agree."""
    return {"cell": cell.name, "failure": reason, "equivalent": False, "seconds_equivalent": False}


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """All cells, and how many of them agree; the goals are for all of them and allow one miss."""
    margins = {"points": POINTS, "share_of_seconds": SHARE}
    counted = {name: sum(row[key] for row in rows) for name, key in AGREEMENTS.items()}
    met = {f"{name}_met": count >= GOAL if len(rows) == OF else None for name, count in counted.items()}
    return {"cells": list(rows), "goal": GOAL, "margins": margins, **counted, **met}


def conditions(threads: int) -> dict[str, Any]:
    """Processor, versions and date."""
    return {
        "processor": processor(),
        "threads": threads,
        "processors": sorted(os.sched_getaffinity(0)),
        "versions": {name: each for name in PACKAGES if (each := installed(name))},
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def installed(package: str) -> str | None:
    """Version of a package; `None` if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def processor() -> str:
    """As Linux names it; the benchmark runs where the files are exported, so no device is asked."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def shown(row: dict[str, Any]) -> str:
    """A line for people."""
    if "failure" in row:
        return f"{row['cell']:26} {row['failure']}"
    difference, lower, upper = (100 * row[key] for key in ("difference", "lower", "upper"))
    ratio = f"{row['seconds_ratio']:.3f} [{row['seconds_lower']:.3f}, {row['seconds_upper']:.3f}]"
    words = {True: "agrees", False: "NOT SHOWN"}
    base_ms, stock_ms = 1e3 * row["base_s"], 1e3 * row["stock_base_s"]
    return (
        f"{row['cell']:26} overhead {row['overhead']:+.1%}, stock {row['stock_overhead']:+.1%}: difference "
        f"{difference:+.2f} points [{lower:+.2f}, {upper:+.2f}] {words[row['equivalent']]}; "
        f"base {base_ms:.2f} ms, stock {stock_ms:.2f}: ratio {ratio} "
        f"{words[row['seconds_equivalent']]}"
    )


def verdicts(result: dict[str, Any]) -> list[str]:
    """Lines for people: goals, and conditions."""
    words = {True: "met", False: "NOT MET", None: "not judged, as cells were left out"}
    count = len(result["cells"])
    lines = [
        f"{name}: {result[name]} of {count} cells; the goal is {GOAL} of {OF}: {words[result[f'{name}_met']]}"
        for name in AGREEMENTS
    ]
    return [*lines, f"{result['processor']}, {result['threads']} threads, {result['versions']}, {result['date']}"]


def plain(arguments: Sequence[str], tail: Sequence[str]) -> dict[str, Any]:
    """Answer of one fresh process."""
    script, *rest = arguments
    found: dict[str, Any] = json.loads(_run([sys.executable, str(HERE / script), *rest, *tail]))
    return found


def adaptare(*words: str) -> str:
    """Standard output of the command line."""
    return _run([sys.executable, "-m", "adaptare", *words])


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.stdout.strip():
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def say(text: str) -> None:
    """Progress, beside the result."""
    print(text, file=sys.stderr, flush=True)


@functools.cache
def _weights() -> Path:
    """Folder of the base, as transformers loads it."""
    return open_model(MODEL).weights_folder().resolve()


if __name__ == "__main__":
    main()
