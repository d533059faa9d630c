"""Graphs cut from those of bases: only the first neurons of some MLPs, and without some layers."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from adaptare.profiler.programs.onnx.base import OnnxBase
from adaptare.profiler.programs.onnx.surgery import (
    change_weights,
    data_of,
    load_graph,
    port_of,
    read_weight,
    replace_entries,
)
from adaptare.profiler.workloads.part import Part

CACHE = re.compile(r"(past_key_values|present)\.(\d+)\.(\w+)")
# The norm in front of each layer, and the one behind the last: it also adds up the residual and the last update.
NORM = re.compile(r"/model/layers\.(\d+)/(?:input|final_norm)_layernorm/\w+")


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
    onnx.save(model, file)


def narrow_base(base: OnnxBase, graph: str, weight_bytes: int) -> OnnxBase:
    """Record of a graph by `write_narrow`, which has its inputs, and the sites whose layers stay.

    Args:
        base: Base that it is cut from.
        graph: File name in the same folder.
        weight_bytes: Size of all its weights.
    """
    found = replace(base, weight_bytes=weight_bytes, graph=graph)
    content = load_graph(found).graph
    names = {node.name for node in content.node}
    sites = {path: tensors for path, tensors in base.sites.items() if path in names}
    return replace(found, inputs=tuple(map(port_of, content.input)), sites=sites)


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


def bypass(model: onnx.ModelProto, left_out: Collection[int]) -> None:
    """Removes layers with their weights and their part of the cache; the cache of the others is numbered anew.

    The norm behind a layer takes what the norm in front of the layer took.

    Args:
        model: Graph of a base, in floating point; modified in place.
        left_out: Layers to remove.
    """
    graph = model.graph
    norms = {int(found[1]): node for node in graph.node if (found := NORM.fullmatch(node.name))}
    hidden: dict[str, str] = {}
    for layer in sorted(left_out):
        before, after = norms[layer], norms[layer + 1]
        if after.op_type != before.op_type:  # nothing is added up in front of the first layer
            hidden.update(dict.fromkeys(filter(None, after.output[1:]), before.input[0]))
            after.op_type, after.domain = before.op_type, before.domain
            replace_entries(after.attribute, before.attribute)
            del after.output[1:]
        after.input[:] = [*before.input[:-1], after.input[-1]]
    names = _cache_names([value.name for value in (*graph.input, *graph.output)], left_out)
    kept = next((name for name in names if name.startswith("past_key_values.")), "")
    for node in graph.node:
        node.input[:] = [hidden.get(name, name) for name in node.input]
        if node.op_type == "Shape" and CACHE.match(node.input[0]) and kept:  # the caches of all layers have one size
            node.input[0] = kept
    for value in [each for each in graph.output if CACHE.match(each.name) and each.name not in names]:
        graph.output.remove(value)
    _remove_unused(graph)
    _rename(graph, names)


def _cache_names(names: Iterable[str], left_out: Collection[int]) -> dict[str, str]:
    """Cache tensor of a kept layer -> its name by the new number of the layer."""
    found = [match for name in names if (match := CACHE.fullmatch(name)) and int(match[2]) not in left_out]
    numbers = {layer: number for number, layer in enumerate(sorted({int(match[2]) for match in found}))}
    return {match[0]: f"{match[1]}.{numbers[int(match[2])]}.{match[3]}" for match in found}


def _remove_unused(graph: onnx.GraphProto) -> None:
    """Removes nodes, constants and inputs without effect on the outputs."""
    used = {value.name for value in graph.output}
    for index in reversed(range(len(graph.node))):
        if used.intersection(graph.node[index].output):
            used.update(filter(None, graph.node[index].input))
        else:
            del graph.node[index]
    for field in (graph.input, graph.initializer):
        for value in [each for each in field if each.name not in used]:
            field.remove(value)


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    for value in (*graph.input, *graph.output):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
