"""Graphs cut from those of bases: only the first neurons of some MLPs, and without some layers."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from adaptare.profiler.programs.onnx.base import OnnxBase, Port
from adaptare.profiler.programs.onnx.bypass import bypass, bypassed_base
from adaptare.profiler.programs.onnx.surgery import change_weights, data_of, load_graph, read_weight
from adaptare.profiler.workloads.part import Part
from adaptare.profiler.workloads.shape import Site


def write_narrow(base: OnnxBase, parts: Mapping[str, Part], file: Path, *, left_out: Collection[int] = ()) -> None:
    """Writes a graph whose unchanged weights stay in the file of the base.

    Args:
        base: Base in floating point.
        parts: Module path -> part of its weight to keep.
        file: Target of the graph, with the narrower weights in `FILE.data`; both end up in the folder of the base.
        left_out: Layers that the graph lacks; `parts` are of others.
    """
    model = load_graph(base)
    if left_out:
        bypass(model, left_out)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    weights: dict[str, NDArray[Any]] = {}
    for path, part in parts.items():
        if path in base.sites:
            name = base.sites[path].weight
            weights[name] = read_weight(tensors[name], base.folder)[part.inputs, part.outputs]
    change_weights(model, weights, data_of(file))
    _narrow_biases(model.graph, base, parts)
    _narrow_ends(model.graph, base, parts, {name: weight.shape for name, weight in weights.items()})
    onnx.save(model, file)


def narrow_base(
    base: OnnxBase, sites: Mapping[str, Site], graph: str, weight_bytes: int, *, left_out: Collection[int] = ()
) -> OnnxBase:
    """Record of a base whose graph has narrower or fewer layers.

    Args:
        base: Base that it is cut from.
        sites: Path in the graph -> the linear at its narrower width.
        graph: File name in the same folder.
        weight_bytes: Size of all its weights.
        left_out: Layers that the graph lacks.
    """
    taken = {base.sites[path].input: site.in_features for path, site in sites.items()}
    inputs = tuple(
        Port(port.name, port.dtype, (*port.shape[:-1], taken.get(port.name, port.shape[-1]))) for port in base.inputs
    )
    narrower = replace(base, inputs=inputs, weight_bytes=weight_bytes, graph=graph)
    return bypassed_base(narrower, left_out) if left_out else narrower


def _narrow_biases(graph: onnx.GraphProto, base: OnnxBase, parts: Mapping[str, Part]) -> None:
    """Narrows the biases added to products; several linears may share one bias tensor."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    products = {base.sites[path].output: part for path, part in parts.items() if path in base.sites}
    for node in graph.node:
        part = next((products[name] for name in node.input if name in products), None)
        bias = next((name for name in node.input if name in tensors and len(tensors[name].dims) == 1), "")
        if node.op_type == "Add" and part and bias:
            values = read_weight(tensors[bias], base.folder)[part.outputs]
            own = f"{node.name}.narrow"
            graph.initializer.append(onnx.numpy_helper.from_array(values, own))
            node.input[list(node.input).index(bias)] = own


def _narrow_ends(
    graph: onnx.GraphProto, base: OnnxBase, parts: Mapping[str, Part], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Narrows the graph's input and output where the graph is a single linear."""
    ends = {value.name: value for value in (*graph.input, *graph.output)}
    for tensors in (base.sites[path] for path in parts if path in base.sites):
        for name, size in zip((tensors.input, tensors.output), shapes[tensors.weight], strict=True):
            if name in ends:
                ends[name].type.tensor_type.shape.dim[-1].dim_value = size
