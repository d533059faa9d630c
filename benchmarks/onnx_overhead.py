"""What adapters cost in ONNX Runtime: by rank, placement, application mode and quantisation of the base.

python benchmarks/onnx_overhead.py [--json] [--figure FILE] [--only CELL ...] [--kept STORE] [--minutes M]

Cells are MODEL/BASE/PHASE: SmolLM2-135M whole, and the shape of Qwen2.5-0.5B by stubs of fewer layers, from which its
24 follow by a straight line. Every program is loaded anew in each opening, in random order; ranks of one placement are
fed to one session and compared within it. `present` is a graph with every site, fed with rank 0 where it says so.

A cell is measured in short sessions, until its intervals are narrow enough, on a quiet machine in fewer; the openings
of all sessions count. With `--kept` they are kept, and a later run goes on from there; a cell whose kept sessions are
narrow enough is not measured again, on whichever machine they were. Those behind the figure of the documentation are
in `measured/onnx_overhead.db.xz`, to be unpacked with `xz -dk`.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from onnx_overhead_cells import cells

from adaptare.devices import Device, DeviceInfo, connect
from adaptare.devices.agent.feeds import filled
from adaptare.devices.agent.ort_runtime import CPU, OrtRuntime
from adaptare.profiler import AdapterConfig, ModelShape, Store, Workload, open_model, programs_for


def preparation(shape: ModelShape, info: DeviceInfo) -> dict[str, float]:
    """Seconds to export a base, once, and to put adapters into it, for each placement."""
    base, times = Workload(shape, mode="merged"), {}
    with tempfile.TemporaryDirectory() as cache:
        programs = programs_for(info, cache=cache)
        times["export_s"] = _elapsed_s(lambda: programs.program(base))
        swappable = replace(base, mode="swappable", adapter=AdapterConfig.uniform(shape, 8))
        times["surgery_s"] = _elapsed_s(lambda: programs.program(swappable))
        times["surgery_static_s"] = _elapsed_s(lambda: programs.program(replace(swappable, mode="static")))
        times["quantise_s"] = _elapsed_s(lambda: programs.program(replace(base, quantisation="int4")))
    return times


def sessions(shape: ModelShape, device: Device) -> list[dict[str, Any]]:
    """Seconds to load each kind of program into a worker of its own, and the memory that it then takes."""
    adapter, programs, found = AdapterConfig.uniform(shape, 8), programs_for(device.info()), []
    for quantisation in ("none", "int4"):
        base = Workload(shape, mode="merged", quantisation=quantisation)
        for workload in (base, *(replace(base, adapter=adapter, mode=mode) for mode in programs.modes(base))):
            program = programs.program(workload)
            with device.open() as worker:
                loaded = worker.load(program)
            mode = workload.mode if len(workload.adapter) else "base"
            took = {"load_s": loaded.load_s, "resident_bytes": loaded.resident_bytes}
            found.append({"quantisation": quantisation, "mode": mode, **took})
    return found


def _elapsed_s(do: Any) -> float:
    started = time.perf_counter()
    do()
    return time.perf_counter() - started


def fed_beside_bound(shape: ModelShape, info: DeviceInfo, calls: int = 60) -> dict[str, float]:
    """`run` with numpy arrays beside a bound run of the same session: the trap for whoever times the former."""
    program = programs_for(info).program(Workload(shape, AdapterConfig.uniform(shape, 8)))
    runtime = OrtRuntime()
    runtime.setup(1, {"provider": CPU, "spinning": True, "flush_denormals": False})
    main_file = next(file for file in program.files if file.name == program.source)
    model = runtime.load(str(main_file.path.parent), program.source, json.loads(program.arguments))
    arguments = json.loads(program.feeds[0].arguments)
    bound, _ = model.bind(arguments)
    arrays = {name: filled(name, spec) for name, spec in arguments["inputs"].items()}
    session = model._session
    seconds: dict[str, list[float]] = {"bound": [], "fed": []}
    for _ in range(calls):
        seconds["bound"].append(_elapsed_s(bound))
        seconds["fed"].append(_elapsed_s(lambda: session.run(None, arrays)))
    ratios = [fed / own for fed, own in zip(seconds["fed"], seconds["bound"], strict=True)]
    return {
        "bound_s": statistics.median(seconds["bound"]),
        "fed_s": statistics.median(seconds["fed"]),
        "fed_over_bound": statistics.median(ratios),
        "inputs": len(arrays),
    }


def draw(rows: Sequence[dict[str, Any]], file: Path) -> None:
    """Overhead over rank, one panel for each cell."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    cells = sorted({row["cell"] for row in rows}, reverse=True)
    columns = 2
    figure, axes = pyplot.subplots(-(-len(cells) // columns), columns, figsize=(11, 3.2 * -(-len(cells) // columns)))
    for axis, cell in zip(np.ravel(axes), cells, strict=False):
        lines: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            if row["cell"] == cell and "overhead" in row:
                lines.setdefault(f"{row['placement']}, {row['mode']}", []).append(row)
        for name, line in lines.items():
            line.sort(key=lambda row: row["rank"])
            middle = np.array([100 * row["overhead"] for row in line])
            below = middle - [100 * row["overhead_lower"] for row in line]
            above = [100 * row["overhead_upper"] for row in line] - middle
            axis.errorbar([row["rank"] for row in line], middle, [below, above], label=name, marker=".", capsize=2)
        axis.axhline(0, color="grey", linewidth=0.5)
        title = f"{cell}, base {1e3 * _base_s(rows, cell):.1f} ms\n{_hardware(rows, cell)}"
        axis.set(title=title, xlabel="rank", ylabel="overhead, %")
        axis.legend(fontsize=6)
    for axis in np.ravel(axes)[len(cells) :]:
        axis.remove()
    figure.tight_layout()
    figure.savefig(file, dpi=80)


def _base_s(rows: Sequence[dict[str, Any]], cell: str) -> float:
    return statistics.median(row["base_s"] for row in rows if row["cell"] == cell and "base_s" in row)


def _hardware(rows: Sequence[dict[str, Any]], cell: str) -> str:
    return next(row["hardware"] for row in rows if row["cell"] == cell and "hardware" in row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--only", nargs="+", help="cells, for example smollm2-135m/int4/decode")
    parser.add_argument("--device", default="ort-cpu:threads=1")
    parser.add_argument("--kept", type=Path, help="store that keeps all sessions, from which a later run goes on")
    parser.add_argument("--minutes", type=float, default=20.0, help="for each cell, at most")
    parser.add_argument("--skip-preparation", action="store_true", help="leave out the times of exporting")
    options = parser.parse_args()
    wanted = [cell for cell in cells() if not options.only or cell.name in options.only]
    if unknown := set(options.only or ()) - {cell.name for cell in wanted}:
        parser.error(f"no cell {', '.join(sorted(unknown))}; there are {', '.join(cell.name for cell in cells())}")

    device, shape = connect(options.device), open_model("smollm2-135m").shape
    info = device.info()
    result: dict[str, Any] = {"device": info.device, "hardware": info.hardware, "runtime": info.runtime}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        store = Store(options.kept or Path(place) / "sessions.db")
        for cell in wanted:
            started = time.monotonic()
            rows += (own := cell.narrowed(device, store, options.minutes))
            out = sys.stderr if options.json else sys.stdout
            for row in own:
                print(_line(row), file=out, flush=True)
            print(f"{cell.name}: {(time.monotonic() - started) / 60:.1f} minutes", file=out, flush=True)
    result["rows"] = rows
    result["sessions"] = sessions(shape, device)
    result["fed_beside_bound"] = fed_beside_bound(shape, info)
    result["preparation"] = {} if options.skip_preparation else preparation(shape, info)
    if options.figure:
        draw(rows, options.figure)
    if options.json:
        print(json.dumps(result))
    else:
        for part in ("sessions", "fed_beside_bound", "preparation"):
            print(part, result[part])


def _line(row: dict[str, Any]) -> str:
    name = f"{row['cell']:28} {row['placement']:13} {row['mode']:11} r{row['rank']:<3}"
    if "failure" in row:
        return f"{name} {row['failure']}"
    interval = f"[{row['overhead_lower']:+.1%}, {row['overhead_upper']:+.1%}]"
    step = row.get("over_first_rank")
    between = f"  over its first rank {step['step']:+.1%} ± {row['rank_half_width']:.1%}" if step else ""
    return f"{name} {row['overhead']:+6.1%} {interval:18}{between}"


if __name__ == "__main__":
    main()
