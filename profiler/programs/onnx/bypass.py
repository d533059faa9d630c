"""Graphs of decoders without some of their layers: the layer after takes the hidden state of the layer before."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

import onnx

from adaptare.profiler.programs.onnx.base import OnnxBase
from adaptare.profiler.programs.onnx.surgery import replace_entries
from adaptare.profiler.workloads.shape import layer_of

CACHE = re.compile(r"(past_key_values|present)\.(\d+)\.(\w+)")
# The norm in front of each layer, and the one behind the last: it also adds up the residual and the last update.
NORM = re.compile(r"/model/layers\.(\d+)/(?:input|final_norm)_layernorm/\w+")


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


def bypassed_base(base: OnnxBase, left_out: Collection[int]) -> OnnxBase:
    """Record of a base without layers; the graph is not written."""
    names = _cache_names([port.name for port in base.inputs], left_out)
    ports = (port for port in base.inputs if port.name in names or not CACHE.match(port.name))
    inputs = tuple(replace(port, name=names.get(port.name, port.name)) for port in ports)
    sites = {path: tensors for path, tensors in base.sites.items() if layer_of(path) not in left_out}
    return replace(base, inputs=inputs, sites=sites)


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
