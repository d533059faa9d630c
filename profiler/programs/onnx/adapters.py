"""Insertion of adapters into the graph of a base, without loading its weights.

Every function modifies the given graph. An adapter adds x A B to the product of its linear; any scale is already
included in B.
"""

import copy
from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from adaptare.profiler.programs.onnx.base import SiteTensors, adapter_inputs
from adaptare.profiler.programs.onnx.rows import PRODUCTS, ROWS, flatten
from adaptare.profiler.programs.onnx.surgery import replace_entries

RowHalves = tuple[NDArray[np.float32], NDArray[np.float32]]
Widths = tuple[int, int]


def add_swappable(model: onnx.ModelProto, sites: Mapping[str, SiteTensors], widths: Mapping[str, Widths]) -> None:
    """Adds adapters whose A, shape (in, rank), and B, shape (rank, out), are inputs; each rank is a separate symbol.

    Args:
        model: Graph of the base, quantised or not.
        sites: Sites that carry an adapter.
        widths: Module path -> (in, out).
    """
    _add_adapters(model.graph, sites, joins=True)
    for path in sites:
        _declare_inputs(model.graph, path, widths[path])


def add_static(model: onnx.ModelProto, sites: Mapping[str, SiteTensors], adapter: Mapping[str, RowHalves]) -> None:
    """Adds adapters whose weights are constants of the graph; the base may be quantised.

    A product and a sum for each B, which `benchmarks/graph_adapters.py` compares with one operator for both.
    """
    _add_adapters(model.graph, {path: sites[path] for path in adapter}, joins=False)
    for path, halves in adapter.items():
        for name, half in zip(adapter_inputs(path), halves, strict=True):
            model.graph.initializer.append(numpy_helper.from_array(half, name))


def add_defaults(model: onnx.ModelProto, widths: Mapping[str, Widths]) -> None:
    """Gives swappable adapters rank 0 as their default, so that a graph without them computes its base."""
    for path, (width_in, width_out) in widths.items():
        for name, shape in zip(adapter_inputs(path), ((width_in, 0), (0, width_out)), strict=True):
            model.graph.initializer.append(numpy_helper.from_array(np.zeros(shape, np.float32), name))


def add_folded(model: onnx.ModelProto, sites: Mapping[str, SiteTensors], widths: Mapping[str, Widths]) -> None:
    """Replaces every weight by W + A B, computed in each run, with A and B as inputs.

    This is merging without a weights file per adapter: the merged reference for output checks. Rank 0 leaves a site
    unchanged.
    """
    before = {}
    for path, tensors in sites.items():
        _declare_inputs(model.graph, path, widths[path])
        product, folded = f"{path}/AB", f"{path}/W+AB"
        before[tensors.output] = [
            helper.make_node("MatMul", list(adapter_inputs(path)), [product], f"{path}/AB"),
            helper.make_node("Add", [tensors.weight, product], [folded], f"{path}/fold"),
        ]
    nodes = []
    for node in model.graph.node:
        added = before.get(node.output[0], [])
        if added:
            node.input[1] = added[-1].output[0]
        nodes += [*added, node]
    replace_entries(model.graph.node, nodes)


def _declare_inputs(graph: onnx.GraphProto, path: str, widths: Widths) -> None:
    A, B = adapter_inputs(path)
    rank = f"rank.{path}"
    graph.input.extend(
        [
            helper.make_tensor_value_info(A, TensorProto.FLOAT, [widths[0], rank]),
            helper.make_tensor_value_info(B, TensorProto.FLOAT, [rank, widths[1]]),
        ]
    )


def _add_adapters(graph: onnx.GraphProto, sites: Mapping[str, SiteTensors], *, joins: bool) -> None:
    """Computes x A B after the linear, added to its product before any bias.

    Args:
        joins: Multiplies by B and adds in a single operator, Gemm. It takes two dimensions, so it is not used where
            changing dimensions adds more nodes than that saves.
    """
    paths = {tensors.output: path for path, tensors in sites.items()}
    if joins:
        flat, made = copy.deepcopy(graph), _products(graph)
        joins = len(paths) >= flatten(flat, {made[name].output[0] for name in paths})
        if joins:
            graph.CopyFrom(flat)
    made, nodes = _products(graph), []
    for node in graph.node:
        nodes.append(node)
        for place, result in enumerate(node.output):
            path = paths.get(result.removesuffix(ROWS)) if result in made else None
            if path is None:
                continue
            A, B = adapter_inputs(path)
            own, inner, update = f"{path}/xW", f"{path}/xA", f"{path}/xAB"
            nodes.append(helper.make_node("MatMul", [made[result].input[0], A], [inner], f"{path}/A"))
            node.output[place] = own
            if joins:
                nodes.append(helper.make_node("Gemm", [inner, B, own], [result], f"{path}/B"))
            else:
                nodes.append(helper.make_node("MatMul", [inner, B], [update], f"{path}/B"))
                nodes.append(helper.make_node("Add", [own, update], [result], f"{path}/add"))
    replace_entries(graph.node, nodes)


def _products(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """Tensor -> the product that computes it, alone or as one of several parts."""
    made = {node.output[0]: node for node in graph.node if node.op_type in PRODUCTS}
    splits = [node for node in graph.node if node.op_type == "Split" and node.input[0] in made]
    return made | {name: made[node.input[0]] for node in splits for name in node.output}
