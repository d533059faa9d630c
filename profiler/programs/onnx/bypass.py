"""Graphs of decoders without some of their layers: the layer after takes the hidden state of the layer before."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

import onnx

from adaptare.core import ProgramError
from adaptare.profiler.programs.onnx.base import OnnxBase
from adaptare.profiler.workloads.shape import layer_of

CACHE = re.compile(r"(past|present)\.(\d+)\.(\w+)")


def bypass(model: onnx.ModelProto, base: OnnxBase, left_out: Collection[int]) -> None:
    """Removes layers with their weights and their part of the cache; the cache of the others is numbered anew.

    Args:
        model: Graph of the base, in floating point; modified in place.
        base: Base of the graph.
        left_out: Layers to remove.

    Raises:
        ProgramError: A layer does not add to a hidden state, or other layers compute with tensors of it.
    """
    graph = model.graph
    names = _cache_names([value.name for value in (*graph.input, *graph.output)], left_out)
    removed = [value.name for value in graph.input if CACHE.match(value.name) and value.name not in names]
    _measure_others(graph, removed, next(name for name in names if name.startswith("past.")))
    before = _hidden_states(graph, base, left_out)
    for node in graph.node:
        node.input[:] = [before.get(name, name) for name in node.input]
    for value in [each for each in graph.output if CACHE.match(each.name) and each.name not in names]:
        graph.output.remove(value)
    used = _remove_unused(graph)
    removed += [tensors.weight for path, tensors in base.sites.items() if layer_of(path) in left_out]
    if shared := used.intersection(removed):
        raise ProgramError(f"other layers of this graph compute with {min(shared)}, so its layer cannot be left out")
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


def _measure_others(graph: onnx.GraphProto, removed: Collection[str], kept: str) -> None:
    """Takes sizes from the cache of a kept layer; the caches of all layers have the same."""
    for node in graph.node:
        if node.op_type == "Shape" and node.input[0] in removed:
            node.input[0] = kept


def _hidden_states(graph: onnx.GraphProto, base: OnnxBase, left_out: Collection[int]) -> Mapping[str, str]:
    """Hidden state after each layer to remove -> the one before it, or before all of those in front of it."""
    fed = {value.name for value in graph.input}
    for node in graph.node:
        if fed.intersection(node.input):
            fed.update(node.output)
    before: dict[str, str] = {}
    for layer in sorted(left_out):
        products = {
            path.rpartition(".")[2]: each.output for path, each in base.sites.items() if layer_of(path) == layer
        }
        entry, _ = _residual_addition(graph, products["o_proj"], fed)
        _, end = _residual_addition(graph, products["down_proj"], fed)
        before[end] = before.get(entry, entry)
    return before


def _residual_addition(graph: onnx.GraphProto, product: str, fed: Collection[str]) -> tuple[str, str]:
    """Residual, and its sum with a product: the first sum with a tensor that is neither constant nor made from it."""
    made = {product}
    for node in graph.node:
        others = [name for name in node.input if name not in made]
        if len(others) == len(node.input):
            continue
        if node.op_type == "Add" and others and others[0] in fed:
            return others[0], node.output[0]
        made.update(node.output)
    raise ProgramError(f"{product} is not added to a hidden state, so its layer cannot be left out")


def _remove_unused(graph: onnx.GraphProto) -> set[str]:
    """Removes nodes, constants and inputs without effect on the outputs. Returns the tensors that stay."""
    used = {value.name for value in graph.output}
    for index in reversed(range(len(graph.node))):
        if used.intersection(graph.node[index].output):
            used.update(graph.node[index].input)
        else:
            del graph.node[index]
    for field in (graph.input, graph.initializer):
        for value in [each for each in field if each.name not in used]:
            field.remove(value)
    return used


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    for value in (*graph.input, *graph.output):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
