"""Agreement of `adaptare overhead` with plain processes that import nothing of adaptare: overhead and base seconds.

python benchmarks/stock_process.py [--json] [--only CELL ...] [--processes 8] [--threads 1] [--files FOLDER]
    [--processor N] [--quick]

Cells are RUNTIME/MODE/PHASE on SmolLM2-135M, with an adapter of rank 16 on all 210 linears that PEFT saved: decode of
one token with 64 cached, prefill of 64. Plain processes load files that `adaptare export` wrote; the base of ONNX
Runtime is the merged export of an adapter that changes nothing. Their scripts are `stock_onnx_process.py`, which binds
inputs and outputs, adapters among them (see there for the reason), and `stock_torch_process.py`.

Each runs in a fresh process, base and adapter in turns, in random order in each turn; half of the turns before
`adaptare overhead` and half after, so that a drift of the machine cancels. Cells of one runtime and phase share their
base processes and their run of the command, as the command measures all modes at once.

Errors of both sides are those of openings and processes, the outer level: the command's from the store it writes.
Differences have 95 % intervals of Welch's t on logarithms. The goal is that 7 of the 8 cells agree in each of both; a
cell that could not be measured does not, nor does one whose interval is so wide that it would contain anything.

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
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from agreement import Estimate, overhead_difference

from adaptare.profiler import Measurement, Store, open_model

MODEL, RANK, LENGTH = "smollm2-135m", 16, 64
GOAL, OF = 7, 8
# Half-width, as a share of the base's latency, from which on an interval contains anything and so is no agreement.
WIDEST = 0.1
HERE = Path(__file__).parent
DEVICES = {"torch": "torch-cpu:", "ort-fp32": "ort-cpu:", "ort-int4": "ort-cpu:int4,"}
# Of `adaptare overhead`.
ONLY_PHASE = {"decode": ("-p", "0", "-d", str(LENGTH)), "prefill": ("-p", str(LENGTH), "-d", "-1")}
# Of the plain processes.
SHAPES = {"decode": ("--tokens", "1", "--past", str(LENGTH)), "prefill": ("--tokens", str(LENGTH), "--past", "0")}
CALLS = {"decode": 60, "prefill": 8}
QUICK_CALLS, QUICK_PROCESSES, QUICK_SECONDS = 4, 2, 3
PACKAGES = ("torch", "transformers", "peft", "onnxruntime", "numpy")


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


CELLS = (
    Cell("torch", "swappable", "decode"),
    Cell("torch", "merged", "decode"),
    Cell("torch", "swappable", "prefill"),
    Cell("ort-fp32", "swappable", "decode"),
    Cell("ort-fp32", "merged", "decode"),
    Cell("ort-fp32", "static", "prefill"),
    Cell("ort-int4", "static", "decode"),
    Cell("ort-int4", "swappable", "prefill"),
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
    processes = QUICK_PROCESSES if options.quick else options.processes
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        files = Files(options.files or Path(place))
        for _, together in itertools.groupby(cells, lambda cell: (cell.runtime, cell.phase)):
            of_group = tuple(together)
            try:
                found = group(of_group, files=files, processes=processes, threads=options.threads, quick=options.quick)
            except RuntimeError as error:
                found = [failed(cell, str(error)) for cell in of_group]
            rows += found
            say("\n".join(map(shown, found)))
    result = {**conditions(options.threads), **summary(rows)}
    print(json.dumps(result) if options.json else "\n".join([*map(shown, rows), *verdicts(result)]))


def parser() -> argparse.ArgumentParser:
    """Options of the command line."""
    names = [cell.name for cell in CELLS]
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--json", action="store_true")
    found.add_argument("--only", nargs="+", choices=names, metavar="CELL", help=f"of {', '.join(names)}")
    found.add_argument("--processes", type=at_least_2, default=8, help="of the base, and of each adapter")
    found.add_argument("--threads", type=int, default=1)
    found.add_argument("--files", type=Path, help="folder that keeps the exported files for the next run")
    found.add_argument("--processor", type=int, help="runs both sides on this processor alone")
    found.add_argument("--quick", action="store_true", help="tries whether it works; its numbers say nothing")
    return found


def at_least_2(text: str) -> int:
    """A number of processes whose spread can be seen."""
    if int(text) < 2:
        raise argparse.ArgumentTypeError(f"must be at least 2, not {text}")
    return int(text)


def group(cells: Sequence[Cell], *, files: Files, processes: int, threads: int, quick: bool) -> list[dict[str, Any]]:
    """Cells of one runtime and phase: plain processes, the command, plain processes."""
    runtime, phase = cells[0].runtime, cells[0].phase
    calls = QUICK_CALLS if quick else CALLS[phase]
    each = {mode: files.arguments(runtime, mode) for mode in ("base", *(cell.mode for cell in cells))}
    tail = (*SHAPES[phase], "--threads", str(threads), "--calls", str(calls))
    medians: dict[str, list[float]] = {mode: [] for mode in each}
    rng, started = np.random.default_rng(0), time.monotonic()

    def turns(count: int) -> None:
        for _ in range(count):
            for mode in rng.permutation(list(each)):
                medians[mode].append(plain(each[mode], tail)["median_s"])

    say(f"{runtime}/{phase}: {processes} processes of {', '.join(each)}, and adaptare overhead between them")
    turns(processes // 2)
    with tempfile.TemporaryDirectory() as place:
        store = f"{place}/measured.db"
        pace = ("--seconds", str(QUICK_SECONDS)) if quick else ()
        device = f"{DEVICES[runtime]}threads={threads}"
        command = ("overhead", MODEL, str(files.peft("adapter")), "--device", device, *ONLY_PHASE[phase], *pace)
        printed = json.loads(adaptare(*command, "--store", store, "--json"))
        if "error" in printed:
            raise RuntimeError(printed["error"])
        measured = Store(store).measurements()
    turns(processes - processes // 2)
    shared = {"processes": processes, "calls": calls, "span_s": time.monotonic() - started}
    return [row_of(cell, printed, measured, medians["base"], medians[cell.mode]) | shared for cell in cells]


def row_of(
    cell: Cell,
    printed: dict[str, Any],
    measured: Sequence[Measurement],
    base_s: Sequence[float],
    adapter_s: Sequence[float],
) -> dict[str, Any]:
    """A cell of the result: printed numbers with the spread of their openings, against plain processes."""
    stock = {"stock_base_seconds": list(base_s), "stock_adapter_seconds": list(adapter_s)}
    rows = [row for row in printed["rows"] if row["mode"] == cell.mode]
    own = [each for each in measured if each.workload.mode == cell.mode and not each.failure]
    if len(rows) != 1 or len(own) != 1:
        reasons = [each["reason"] for each in printed["failures"] if each["mode"] == cell.mode]
        return failed(cell, reasons[0] if reasons else f"the command printed {len(rows)} rows") | stock
    ratios = by_opening(own[0], own[0].ratios)
    seconds = by_opening(own[0], np.array([visit.median_s for visit in own[0].reference_visits]))
    if len(ratios) < 2:
        return failed(cell, "the command loaded its programs once, which says nothing about another time") | stock
    (row,) = rows
    ours = Estimate.of_samples(ratios, middle=1 + row["overhead"])
    ours_s = Estimate.of_samples(seconds, middle=row["base_s"])
    return compared(cell, ours, ours_s, base_s, adapter_s) | {
        "overhead_lower": row["overhead_lower"],
        "overhead_upper": row["overhead_upper"],
        "openings": len(ratios),
        **stock,
    }


def by_opening(measured: Measurement, values: Any) -> list[float]:
    """Median over the rounds of each opening."""
    return [float(np.median(values[measured.openings == opening])) for opening in np.unique(measured.openings)]


def compared(
    cell: Cell, ours: Estimate, ours_s: Estimate, base_s: Sequence[float], adapter_s: Sequence[float]
) -> dict[str, Any]:
    """Overhead and base seconds of the command against those of pairs of processes."""
    theirs = Estimate.of_samples([one / other for one, other in zip(adapter_s, base_s, strict=True)])
    theirs_s = Estimate.of_samples(base_s)
    lower, difference, upper = overhead_difference(ours, theirs)
    stock_lower, stock, stock_upper = (end - 1 for end in theirs.interval)
    seconds_lower, ratio, seconds_upper = ours_s.over(theirs_s).interval
    return {
        "cell": cell.name,
        "overhead": ours.interval[1] - 1,
        "stock_overhead": stock,
        "stock_lower": stock_lower,
        "stock_upper": stock_upper,
        "overhead_difference": difference,
        "lower": lower,
        "upper": upper,
        "zero_inside": lower <= 0 <= upper,
        "base_s": ours_s.interval[1],
        "stock_base_s": theirs_s.interval[1],
        "seconds_ratio": ratio,
        "seconds_lower": seconds_lower,
        "seconds_upper": seconds_upper,
        "one_inside": seconds_lower <= 1 <= seconds_upper,
    }


def failed(cell: Cell, reason: str) -> dict[str, Any]:
    """A cell without numbers, which counts as one that does not agree."""
    return {"cell": cell.name, "failure": reason, "zero_inside": False, "one_inside": False}


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """All cells, and how many of them agree; the goals are for all of them and allow one miss."""
    return {
        "cells": list(rows),
        "goal": GOAL,
        "widest": WIDEST,
        **_counted(rows, "overhead", "zero_inside", ("lower", "upper")),
        **_counted(rows, "seconds", "one_inside", ("seconds_lower", "seconds_upper")),
    }


def _counted(rows: Sequence[dict[str, Any]], name: str, inside: str, ends: tuple[str, str]) -> dict[str, Any]:
    lower, upper = ends
    widths = {number: (row[upper] - row[lower]) / 2 for number, row in enumerate(rows) if lower in row}
    counted = [number for number, row in enumerate(rows) if row[inside]]
    wide = [number for number in counted if widths[number] > WIDEST]
    return {
        f"{name}_{inside}": len(counted),
        f"{name}_too_wide": len(wide),
        f"{name}_half_width_median": float(np.median(list(widths.values()))) if widths else None,
        f"{name}_met": len(counted) - len(wide) >= GOAL if len(rows) == OF else None,
    }


def conditions(threads: int) -> dict[str, Any]:
    """Processor, versions and date."""
    return {
        "processor": processor(),
        "threads": threads,
        "processors": sorted(os.sched_getaffinity(0)),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def processor() -> str:
    """As Linux names it; the benchmark runs where the files are exported, so no device is asked."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def shown(row: dict[str, Any]) -> str:
    """A line for people."""
    if "failure" in row:
        return f"{row['cell']:26} {row['failure']}"
    difference, lower, upper = (100 * row[key] for key in ("overhead_difference", "lower", "upper"))
    ratio = f"{row['seconds_ratio']:.3f} [{row['seconds_lower']:.3f}, {row['seconds_upper']:.3f}]"
    base_ms, stock_ms = 1e3 * row["base_s"], 1e3 * row["stock_base_s"]
    return (
        f"{row['cell']:26} overhead {row['overhead']:+.1%}, stock {row['stock_overhead']:+.1%}: difference "
        f"{difference:+.2f} points [{lower:+.2f}, {upper:+.2f}] {_word(row, 'zero_inside', 'lower', 'upper')}; "
        f"base {base_ms:.2f} ms, stock {stock_ms:.2f}: ratio {ratio} "
        f"{_word(row, 'one_inside', 'seconds_lower', 'seconds_upper')}"
    )


def _word(row: dict[str, Any], inside: str, lower: str, upper: str) -> str:
    if not row[inside]:
        return "DIFFERS"
    return "too wide to say" if (row[upper] - row[lower]) / 2 > WIDEST else "agrees"


def verdicts(result: dict[str, Any]) -> list[str]:
    """Lines for people: goals, and conditions."""
    words = {True: "met", False: "NOT MET", None: "not judged, as cells were left out"}
    count = len(result["cells"])
    lines = []
    for name, key in (("overhead", "overhead_zero_inside"), ("seconds", "seconds_one_inside")):
        width = result[f"{name}_half_width_median"]
        half = "" if width is None else f", {result[f'{name}_too_wide']} of them too wide to say (median ±{width:.1%})"
        goal = f"the goal is {GOAL} of {OF}: {words[result[f'{name}_met']]}"
        lines.append(f"{name}: {result[key]} of {count} cells agree{half}; {goal}")
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
