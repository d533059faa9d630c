"""What adapters cost in ONNX Runtime: by rank, placement, application mode and quantisation of the base.

python benchmarks/onnx_overhead.py [--json] [--figure FILE] [--only CELL ...] [--kept FILE]

Cells are MODEL/BASE/PHASE: SmolLM2-135M whole, and the shape of Qwen2.5-0.5B by stubs of fewer layers, from which its
24 follow by a straight line. Every program is loaded anew in each opening, in random order; ranks of one placement are
fed to one session and compared within it. `present` is a graph with every site, fed with rank 0 where it says so.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from adaptare.devices import Device, DeviceInfo, connect
from adaptare.devices.ort_runtime import CPU, filled, load, setup
from adaptare.profiler import (
    AdapterConfig,
    FixedRounds,
    Interval,
    Measurement,
    ModelShape,
    Quantisation,
    Workload,
    open_model,
    overhead,
    profile,
    profile_by_stubs,
    programs_for,
)

RANKS = (1, 8, 16, 32, 64)
QUERY_AND_VALUE = ("q_proj", "v_proj")
MIDDLE = 16
# Openings and rounds in each, by base and phase. A program on 4-bit weights is off by some percent for as long as it is
# open, which the line through two stubs multiplies; prefill takes long and is steady.
PACE = {
    ("fp32", "decode"): (14, 20),
    ("int4", "decode"): (60, 7),
    ("fp32", "prefill"): (8, 12),
    ("int4", "prefill"): (8, 12),
}
STUBS_PACE = {
    ("fp32", "decode"): (20, 20),
    ("int4", "decode"): (280, 2),
    ("fp32", "prefill"): (12, 8),
    ("int4", "prefill"): (12, 5),
}
# The same for adapters in the graph itself. Each is a program of its own, and loading takes longer than running.
OWN_PROGRAMS_PACE = {
    ("fp32", "decode"): (10, 12),
    ("int4", "decode"): (80, 2),
    ("fp32", "prefill"): (8, 5),
    ("int4", "prefill"): (8, 5),
}
# https://huggingface.co/Qwen/Qwen2.5-0.5B, config.json
QWEN_05B = {
    "model_type": "qwen2",
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
    "rope_theta": 1000000.0,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
}


@dataclass(frozen=True)
class Case:
    """One row: `present` graphs have every site, `cut` ones only those that carry an adapter."""

    placement: str
    mode: str
    rank: int
    workload: Workload


def cases_of(base: Workload, ranks: Sequence[int] = RANKS) -> list[Case]:
    shape, middle = base.shape, MIDDLE
    everywhere = {rank: AdapterConfig.uniform(shape, rank) for rank in ranks}
    some = {rank: AdapterConfig.uniform(shape, rank, kinds=QUERY_AND_VALUE) for rank in ranks}
    fed = replace(base, mode="swappable")
    found = [Case("all", "swappable", 0, fed.with_adapter(AdapterConfig().uncut(shape)))]
    found += [Case("all", "swappable", rank, fed.with_adapter(everywhere[rank])) for rank in ranks]
    found += [Case("q+v, cut", "swappable", rank, fed.with_adapter(some[rank])) for rank in ranks]
    found += [Case("q+v, present", "swappable", rank, fed.with_adapter(some[rank].uncut(shape))) for rank in ranks]
    padded = replace(fed.with_adapter(some[middle].uncut(shape)), mode="padded")
    found.append(Case("q+v, present", "padded", middle, padded))
    static = replace(base, mode="static")
    found += [Case("all", "static", rank, static.with_adapter(everywhere[rank])) for rank in (middle, ranks[-1])]
    found.append(Case("q+v, cut", "static", middle, static.with_adapter(some[middle])))
    folded = fed.with_adapter(everywhere[middle]).folded
    return [*found, Case("all", folded.mode, middle, folded)]


def stub_cases(base: Workload) -> tuple[list[Case], list[Case]]:
    """Adapters that are fed to two graphs, and adapters that are part of graphs of their own."""
    cases = cases_of(base)
    middle = [case for case in cases if case.rank == MIDDLE]
    fed = [case for case in cases if case.placement == "all" and case.mode == "swappable"]
    fed += [case for case in cases if case.placement == "q+v, cut" and case.mode == "swappable" and case.rank != 8]
    fed += [case for case in middle if case.placement == "q+v, present"]
    return fed, [case for case in middle if case.placement == "all" and case.mode != "swappable"]


@dataclass(frozen=True)
class Run:
    """How long to measure.

    Args:
        device: As on the command line.
        openings: Of every program.
        rounds: In each opening.
        own_programs: Both, for stubs with adapters in graphs of their own.
        seed: Of the order of visits.
    """

    device: str
    openings: int
    rounds: int
    own_programs: tuple[int, int]
    seed: int = 0

    def measured(self, workloads: Sequence[Workload], reference: Workload) -> list[Measurement]:
        """All of them beside the reference, in one session."""
        return profile(
            workloads,
            reference=reference,
            device=connect(self.device),
            stop=FixedRounds(self.rounds),
            seed=self.seed,
            openings=self.openings,
        )

    def by_stubs(self, workloads: Sequence[Workload], reference: Workload) -> list[Measurement]:
        """All of them composed from stubs."""
        groups = profile_by_stubs(
            workloads,
            reference=reference,
            device=connect(self.device),
            stop=FixedRounds(self.rounds),
            seed=self.seed,
            openings=self.openings,
        )
        return [measurement for group in groups for measurement in group]


def whole_model(
    cell: str, shape: ModelShape, quantisation: Quantisation, phase: Any, run: Run
) -> Iterator[dict[str, Any]]:
    base = Workload(shape, mode="merged", phase=phase, quantisation=quantisation)
    cases = cases_of(base)
    yield from rows_of(cell, cases, run.measured([case.workload for case in cases], base))


def by_stubs(
    cell: str, shape: ModelShape, quantisation: Quantisation, phase: Any, run: Run
) -> Iterator[dict[str, Any]]:
    """Overheads of the full depth: latency is a straight line in the number of layers."""
    base = Workload(shape, mode="merged", phase=phase, quantisation=quantisation)
    fed, own = stub_cases(base)
    openings, rounds = run.own_programs
    for cases, each in ((fed, run), (own, replace(run, openings=openings, rounds=rounds))):
        yield from rows_of(cell, cases, each.by_stubs([case.workload for case in cases], base))


def rows_of(cell: str, cases: Sequence[Case], measured: Sequence[Measurement]) -> Iterator[dict[str, Any]]:
    """What each case costs over the base, and over the first rank of its placement and mode."""
    firsts: dict[tuple[str, str], Measurement] = {}
    for case, found in zip(cases, measured, strict=True):
        if found.failure:
            yield {"cell": cell, **_named(case), "failure": found.failure}
            continue
        first = firsts.setdefault((case.placement, case.mode), found)
        step = overhead(found, first) if first is not found else None
        yield {
            "cell": cell,
            **_named(case),
            **_interval("overhead", found.overhead),
            "half_width": (found.overhead.upper - found.overhead.lower) / 2,
            "over_first_rank": _interval("step", step) if step else None,
            "rank_half_width": (step.upper - step.lower) / 2 if step else None,
            "base_s": found.reference_raw_s,
            "resident_bytes": found.resident_bytes,
            "load_s": found.load_s,
        }


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
    workload = Workload(shape, AdapterConfig.uniform(shape, 8))
    program = programs_for(info).program(workload)
    setup({"threads": 1, "provider": CPU, "spinning": True, "flush_denormals": False})
    model = load(program.source, json.loads(program.arguments))
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


def _named(case: Case) -> dict[str, Any]:
    return {"placement": case.placement, "mode": case.mode, "rank": case.rank}


def _interval(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.middle, f"{name}_lower": interval.lower, f"{name}_upper": interval.upper}


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
        axis.set(title=f"{cell}, base {1e3 * _base_s(rows, cell):.1f} ms", xlabel="rank", ylabel="overhead, %")
        axis.legend(fontsize=6)
    figure.tight_layout()
    figure.savefig(file, dpi=80)


def _base_s(rows: Sequence[dict[str, Any]], cell: str) -> float:
    return statistics.median(row["base_s"] for row in rows if row["cell"] == cell and "base_s" in row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--only", nargs="+", help="cells, for example smollm2-135m/int4/decode")
    parser.add_argument("--device", default="ort-cpu:threads=1")
    parser.add_argument("--openings", type=int, help="of every cell; default: by base and phase")
    parser.add_argument("--rounds", type=int, help="in each opening; default: by base and phase")
    parser.add_argument("--kept", type=Path, help="JSON file that keeps cells; those in it are not measured again")
    parser.add_argument("--skip-preparation", action="store_true", help="leave out the times of exporting")
    options = parser.parse_args()

    info = connect(options.device).info()
    shape, qwen = open_model("smollm2-135m").shape, ModelShape.from_mapping(QWEN_05B)
    result: dict[str, Any] = {"device": info.device, "hardware": info.hardware, "runtime": info.runtime}
    rows: list[dict[str, Any]] = []
    if options.kept and options.kept.exists():
        rows = json.loads(options.kept.read_text(encoding="utf-8"))
    known_cells = {row["cell"] for row in rows}
    for name, known, measure, pace in (
        ("smollm2-135m", shape, whole_model, PACE),
        ("qwen2.5-0.5b", qwen, by_stubs, STUBS_PACE),
    ):
        for base, quantisation in (("fp32", "none"), ("int4", "int4")):
            for phase in ("decode", "prefill"):
                cell = f"{name}/{base}/{phase}"
                if cell in known_cells or (options.only and cell not in options.only):
                    continue
                openings, rounds = pace[base, phase]
                own = OWN_PROGRAMS_PACE[base, phase]
                own = (options.openings or own[0], options.rounds or own[1])
                run = Run(options.device, options.openings or openings, options.rounds or rounds, own)
                for row in measure(cell, known, quantisation, phase, run):  # type: ignore[operator]
                    rows.append(row)
                    print(_line(row), file=sys.stderr if options.json else sys.stdout, flush=True)
                if options.kept:
                    options.kept.write_text(json.dumps(rows), encoding="utf-8")
    result["rows"] = rows
    result["sessions"] = sessions(shape, connect(options.device))
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
