"""A single decoder layer, or one of its linears, cut out of an exported graph."""

import json

import onnx
from onnx import TensorProto

from adaptare.core import ProgramError
from adaptare.profiler.programs.onnx.surgery import replace_entries

SCOPES = "pkg.torch.onnx.name_scopes"
INTEGERS = (TensorProto.INT64, TensorProto.INT32)


def scopes_of(node: onnx.NodeProto) -> list[str]:
    """Modules that a node came from, outermost first, as recorded by the exporter."""
    scopes = next((entry.value for entry in node.metadata_props if entry.key == SCOPES), "[]")
    return [str(scope) for scope in json.loads(scopes.replace("'", '"'))]


def cut(model: onnx.ModelProto, scope: str) -> None:
    """Keeps only the nodes of a module; tensors from other nodes become inputs, tensors for other nodes outputs.

    Sizes that other nodes compute (a number of tokens, say) are still computed, because their values matter. The first
    output is the return value of the module; the cache follows.

    Args:
        model: Exported model with the types of its tensors; modified in place.
        scope: Module, as spelled by the exporter.

    Raises:
        ProgramError: The exporter recorded no node of this module.
    """
    graph = model.graph
    own = {index for index, node in enumerate(graph.node) if scope in scopes_of(node)}
    if not own:
        raise ProgramError(f"the export names no node of {scope!r}; it cannot be timed alone")
    own |= _between(graph, own)
    types = {value.name: value for value in (*graph.value_info, *graph.input, *graph.output)}
    made = {name: index for index, node in enumerate(graph.node) for name in node.output}
    kept = _with_sizes(graph, own, made, types)
    nodes = [graph.node[index] for index in sorted(kept)]
    inside = {name for node in nodes for name in node.output}
    constants = {tensor.name for tensor in graph.initializer}
    taken = list(dict.fromkeys(name for node in nodes for name in node.input))
    inputs = [types[name] for name in taken if name and name not in inside and name not in constants]
    outside = {name for index, node in enumerate(graph.node) if index not in kept for name in node.input}
    given = list(dict.fromkeys(name for index in sorted(own) for name in graph.node[index].output))
    declared = [value.name for value in graph.output]
    outputs = [types[name] for name in given if name in outside and name not in declared]
    outputs += [value for value in graph.output if value.name in inside]
    replace_entries(graph.node, nodes)
    replace_entries(graph.input, inputs)
    replace_entries(graph.output, outputs)
    replace_entries(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in set(taken)])


def _between(graph: onnx.GraphProto, own: set[int]) -> set[int]:
    """Nodes on a path between two nodes of the module: the exporter's rewriting drops the origin of some nodes."""
    behind, before = set(own), set(own)
    reached = {name for index in own for name in graph.node[index].output}
    for index, node in enumerate(graph.node):
        if reached.intersection(node.input):
            behind.add(index)
            reached.update(node.output)
    needed = {name for index in own for name in graph.node[index].input}
    for index in reversed(range(len(graph.node))):
        if needed.intersection(graph.node[index].output):
            before.add(index)
            needed.update(graph.node[index].input)
    return behind & before


def _with_sizes(
    graph: onnx.GraphProto, own: set[int], made: dict[str, int], types: dict[str, onnx.ValueInfoProto]
) -> set[int]:
    """The nodes, and those that compute sizes for them: integers, single or in a list."""
    kept, waiting = set(own), list(own)
    while waiting:
        for name in graph.node[waiting.pop()].input:
            maker = made.get(name)
            if maker is None or maker in kept or not _is_size(types.get(name)):
                continue
            kept.add(maker)
            waiting.append(maker)
    return kept


def _is_size(value: onnx.ValueInfoProto | None) -> bool:
    """True if a tensor holds sizes; tensors without a recorded type are small intermediate results."""
    if value is None:
        return True
    tensor = value.type.tensor_type
    return tensor.elem_type in INTEGERS and len(tensor.shape.dim) <= 1
