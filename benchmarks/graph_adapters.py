"""Ways to apply an adapter in an ONNX graph, side by side: overhead of each, in plain sessions of ONNX Runtime.

python benchmarks/graph_adapters.py [--json] [--blocks 6] [--only fp32 int4] [--ranks 1 16 64]
    [--ways sum gemm ...] [--earlier FOLDER]

SmolLM2-135M, one thread, decode after 64 positions. All ways give the same logits in fp32, which is checked first:

  sum      x A, times B, plus the product of the linear: three operators for each linear
  apart    as `sum`, and q, k and v are three products instead of one that is split
  gemm     activations in two dimensions; x A, and a Gemm that multiplies by B and adds
  shared   as `sum`, and linears of one input multiply by one matrix of all their A, whose product is split
  open     as `sum` and as `gemm` (`open gemm`), with constants that are also inputs: a caller may replace them, so the
           session does not pack them
  rows     B below the rows of the weight: (x, x A) times (W; B), where linears of one input share the product with all
           their A; only in fp32 as constants, and the weights are no longer those of the base

`--earlier` compares the ways that are written with graphs of an earlier version instead: `PRECISION/model.onnx` in the
folder, and `PRECISION/rank-RANK-PLACEMENT-MODE.onnx` with the same names of inputs. `to_own_base` is the ratio of such
a graph to its own base, and `to_earlier` that of a graph to the earlier one. An earlier version exports them with
`OnnxBases` and `write_graph`.

`written` names the way in which `adaptare export` and the devices write a swappable adapter: `gemm` where it saves more
nodes than changing dimensions adds, otherwise `sum`. A static one is written as `sum`.

Every block is one new process that opens all files in random order and calls each of them once in every round. The
ratio to the base is that of the medians in a block; the interval is Student's t over the blocks. `to_sum` is the ratio
to `sum` of the same mode.
"""

import argparse
import json
import multiprocessing
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
import stock_onnx_process
from graphs import MODEL, PRECISIONS, ratios_of
from onnx import helper, numpy_helper

from adaptare.profiler import Configuration, Workload, open_model
from adaptare.profiler.programs import write_onnx_adapter
from adaptare.profiler.programs.onnx import adapters, rows
from adaptare.profiler.programs.onnx.base import OnnxBase, adapter_inputs
from adaptare.profiler.programs.onnx.bases import OnnxBases
from adaptare.profiler.programs.onnx.export import run_model
from adaptare.profiler.programs.onnx.surgery import change_weights, data_of, load_graph, read_weight, replace_entries
from adaptare.profiler.programs.onnx.writer import write_graph
from adaptare.profiler.workloads import Halves, SubAdapter

PICKED = {"q+v": ("q_proj", "v_proj"), "all": ("",)}
CALL = ("--tokens", "1", "--past", "64")
WARM_UP, ROUNDS = 5, 40
TOLERANCE = 1e-4
ADD_ADAPTERS = adapters._add_adapters
OPEN = {"open": False, "open gemm": True}
WAYS = ("sum", "gemm", "apart", *OPEN, "shared", "rows")


def by_input(base: OnnxBase, adapter: Mapping[str, Halves]) -> list[list[str]]:
    """Sites with an adapter, those of one input together."""
    groups = defaultdict(list)
    for path in adapter:
        groups[base.sites[path].input].append(path)
    return list(groups.values())


def write_shared(adapted: SubAdapter[OnnxBase], file: Path) -> None:
    """Of constants: one matrix of all A for each input."""
    write_as(adapted, file, "static", joins=False)
    model = onnx.load(file, load_external_data=False)
    graph = model.graph
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer if "lora" in tensor.name}
    first = {name: group for group in by_input(adapted.base, adapted.halves) for name in group[:1]}
    places = {f"{path}/A": path for path in adapted.halves}
    nodes = []
    for node in graph.node:
        path = places.get(node.name)
        if path is None:
            nodes.append(node)
        elif path in first:
            group, joined = first[path], f"{path}/every_A"
            together = np.concatenate([values[adapter_inputs(each)[0]] for each in group], axis=1)
            graph.initializer.append(numpy_helper.from_array(together, joined))
            nodes.append(helper.make_node("MatMul", [node.input[0], joined], [f"{joined}/x"], joined))
            parts = [f"{each}/xA" for each in group]
            nodes.append(
                helper.make_node("Split", [f"{joined}/x"], parts, f"{joined}/parts", axis=-1, num_outputs=len(parts))
            )
    replace_entries(graph.node, nodes)
    onnx.save(model, file)


def write_open(adapted: SubAdapter[OnnxBase], file: Path, *, joins: bool) -> None:
    """Of constants that are the defaults of inputs."""
    write_as(adapted, file, "static", joins=joins)
    model = onnx.load(file, load_external_data=False)
    for tensor in model.graph.initializer:
        if "lora" in tensor.name:
            model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    onnx.save(model, file)


def write_rows(adapted: SubAdapter[OnnxBase], file: Path) -> None:
    """Of constants in fp32: (x, x A) times (W; B)."""
    base = adapted.base
    model, weights = load_graph(base), {}
    graph, tensors = model.graph, {}
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    wider, nodes = {}, []
    for group in by_input(base, adapted.halves):
        halves, at = [adapted.halves[path].of_rows for path in group], 0
        rank = sum(A.shape[1] for A, _ in halves)
        for path, (A, B) in zip(group, halves, strict=True):
            below = np.zeros((rank, B.shape[1]), np.float32)
            below[at : at + A.shape[1]] = B
            at += A.shape[1]
            name = base.sites[path].weight
            weights[name] = np.concatenate([read_weight(tensors[name], base.folder), below])
            wider[base.sites[path].output] = f"{group[0]}/x+xA"
        graph.initializer.append(
            numpy_helper.from_array(np.concatenate([A for A, _ in halves], axis=1), f"{group[0]}/every_A")
        )
    made = set()
    for node in graph.node:
        both = wider.get(node.output[0])
        if both and both not in made:
            made.add(both)
            every, inner = both.replace("x+xA", "every_A"), both.replace("x+xA", "xA")
            nodes.append(helper.make_node("MatMul", [node.input[0], every], [inner], inner))
            nodes.append(helper.make_node("Concat", [node.input[0], inner], [both], both, axis=-1))
        if both:
            node.input[0] = both
        nodes.append(node)
    replace_entries(graph.node, nodes)
    change_weights(model, weights, data_of(file))
    onnx.save(model, file)


def write_as(adapted: SubAdapter[OnnxBase], file: Path, mode: str, *, joins: bool, packs: bool = True) -> None:
    """With or without Gemm, however many nodes change dimensions."""

    def flatten(*arguments: Any) -> int:
        rows.flatten(*arguments)
        return 0

    def add(*arguments: Any, **_: bool) -> None:
        ADD_ADAPTERS(*arguments, joins=joins)

    with mock.patch.multiple(adapters, flatten=flatten, _add_adapters=add):
        write_graph(adapted, file, application=mode, packs=packs)


def written(adapted: SubAdapter[OnnxBase], mode: str, rounded: bool, name: str) -> dict[str, Path]:
    """Graphs of every way, in the folder of the base, whose weights they share."""
    ways = {"sum": (False, True), "gemm": (True, True), "apart": (False, False)}
    files = {way: adapted.base.folder / f"benchmark-{name}-{way}.onnx" for way in (*ways, *OPEN, "shared", "rows")}
    for way, (joins, packs) in ways.items():
        write_as(adapted, files[way], mode, joins=joins, packs=packs)
    if mode == "static":
        write_shared(adapted, files["shared"])
        for way, joins in OPEN.items():
            write_open(adapted, files[way], joins=joins)
        if not rounded:
            write_rows(adapted, files["rows"])
    return {way: file for way, file in files.items() if file.exists()}


def block(runs: Mapping[str, Sequence[str]], seed: int) -> dict[str, float]:
    """Median seconds of every run, by the arguments of `stock_onnx_process`, in this process."""
    random = np.random.default_rng(seed)
    calls = {
        name: stock_onnx_process.opened(stock_onnx_process.parsed(runs[name])) for name in random.permutation([*runs])
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(WARM_UP + ROUNDS):
        for name in random.permutation([*runs]):
            seconds[name].append(calls[name]())
    return {name: statistics.median(values[WARM_UP:]) for name, values in seconds.items()}


def compared(runs: Mapping[str, Sequence[str]], blocks: int) -> dict[str, Any]:
    """Seconds of every run, and its ratios to the base and to `sum` of its mode, with intervals."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as pool:
        rows = list(pool.map(block, [runs] * blocks, range(blocks)))
    found = ratios_of(rows, "base")
    for mode in ("static", "swappable"):
        for way, row in ratios_of(rows, f"{mode} sum").items():
            if way.startswith(mode):
                found[way]["to_sum"] = row["ratio"]
    for mode in ("base", "static", "swappable") if "earlier base" in runs else ():
        found[f"earlier {mode}"]["to_own_base"] = ratios_of(rows, "earlier base")[f"earlier {mode}"]["ratio"]
        for way, row in ratios_of(rows, f"earlier {mode}").items():
            if way.startswith(mode):
                found[way]["to_earlier"] = row["ratio"]
    return found


def check(files: Mapping[str, Path], adapter: Mapping[str, Any]) -> None:
    """Ends the benchmark if two ways differ: without optimisation, so only by the order of sums."""
    random = np.random.default_rng(0)
    inputs: dict[str, Any] = {
        "input_ids": random.integers(0, 1000, (1, 7)),
        "attention_mask": np.ones((1, 7), np.int64),
    }
    for value in onnx.load(files["sum"], load_external_data=False).graph.input:
        if value.name.startswith("past"):
            _, heads, _, width = (size.dim_value for size in value.type.tensor_type.shape.dim)
            inputs[value.name] = np.zeros((1, heads, 0, width), np.float32)
    logits = {way: run_model(file, {**inputs, **adapter})[0] for way, file in files.items()}
    for way, found in logits.items():
        difference = np.abs(found - logits["sum"]).max() / np.abs(logits["sum"]).max()
        if difference > TOLERANCE:
            raise SystemExit(f"{way} differs from sum by {difference:.2g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--blocks", type=int, default=6, help="at least 4")
    parser.add_argument("--only", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--ranks", nargs="+", type=int, default=[1, 16, 64])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="beside sum; `rows` in fp32 alone")
    parser.add_argument("--earlier", type=Path, help="folder of graphs of an earlier version")
    options = parser.parse_args()
    if options.blocks < 4:
        parser.error("--blocks must be at least 4")

    if options.earlier and (missing := absent(options)):
        parser.error(f"--earlier needs {missing[0]}, which is not there; export it with the earlier version")

    source, result = open_model(MODEL), dict[str, Any]()
    for precision in options.only:
        base = OnnxBases(weights=source).base(Workload(source.shape, quantisation=PRECISIONS[precision]))
        for rank in options.ranks:
            for picked, ends in PICKED.items():
                chosen = [site for site in source.shape.sites if site.path.endswith(ends)]
                halves = {
                    site.path: Halves.random(site.path, rank, site.in_features, site.out_features) for site in chosen
                }
                adapted = SubAdapter(Configuration.of(dict.fromkeys(halves, rank)), halves, base)
                cell = f"{precision} rank {rank} {picked}"
                result[cell] = measured(adapted, cell.replace(" ", "-"), precision != "fp32", options)
                if not options.json:
                    shown(cell, result[cell])
    if options.json:
        print(json.dumps(result))


def measured(adapted: SubAdapter[OnnxBase], name: str, rounded: bool, options: argparse.Namespace) -> dict[str, Any]:
    """Every way of both modes, and the base, in the same blocks."""
    pairs = {path: halves.of_rows for path, halves in adapted.halves.items()}
    tensors = {
        name: half for path, pair in pairs.items() for name, half in zip(adapter_inputs(path), pair, strict=True)
    }
    runs, files = {"base": (str(adapted.base.packed), *CALL)}, []
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "adapter.onnx_adapter"
        write_onnx_adapter(tensors, file)
        for mode, given in (("static", {}), ("swappable", tensors)):
            ways = written(adapted, mode, rounded, f"{name}-{mode}")
            files += ways.values()
            if not rounded:
                check(ways, given)
            fed = ("--adapter", str(file)) if given else ()
            runs |= {
                f"{mode} {way}": (str(graph), *fed, *CALL)
                for way, graph in ways.items()
                if way in ("sum", *options.ways)
            }
        own = Path(place) / "own.onnx"
        write_graph(adapted, own, application="swappable")
        joined = any(node.op_type == "Gemm" for node in onnx.load(own, load_external_data=False).graph.node)
        way = "gemm" if joined else "sum"
        if options.earlier:
            kept = ("base", "static sum", "swappable sum", f"swappable {way}")
            runs = {name: runs[name] for name in kept} | earlier(options.earlier, name, ("--adapter", str(file)))
        try:
            return {"written": way, "ways": compared(runs, options.blocks)}
        finally:
            for graph in files:
                graph.unlink()
                data_of(graph).unlink(missing_ok=True)


def absent(options: argparse.Namespace) -> list[str]:
    """Graphs of the earlier version that are not there."""
    names = [f"{only}-rank-{rank}-{picked}" for only in options.only for rank in options.ranks for picked in PICKED]
    files = [words[0] for name in names for words in earlier(options.earlier, name, ()).values()]
    return [file for file in files if not Path(file).is_file()]


def earlier(folder: Path, name: str, fed: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Arguments of processes for the graphs of an earlier version."""
    precision, adapter = name.split("-", 1)
    files = {"base": "model", "static": f"{adapter}-static", "swappable": f"{adapter}-swappable"}
    return {
        f"earlier {each}": (str(folder / precision / f"{file}.onnx"), *(fed if each == "swappable" else ()), *CALL)
        for each, file in files.items()
    }


def shown(cell: str, found: Mapping[str, Any]) -> None:
    print(f"{cell:20} written as {found['written']}")
    for way, row in found["ways"].items():
        lower, middle, upper = (100 * (value - 1) for value in row["ratio"])
        print(
            f"{cell:20} {way:20} {1e3 * row['median_s']:7.2f} ms {middle:6.1f} % [{lower:5.1f}, {upper:5.1f}]",
            flush=True,
        )


if __name__ == "__main__":
    main()
