"""A single decoder layer cut out of an exported graph."""

import re

import onnx
from onnx import TensorProto

from adaptare.core import ProgramError
from adaptare.profiler.programs.onnx.surgery import replace_entries

INTEGERS = (TensorProto.INT64, TensorProto.INT32)
FINAL_NORM = re.compile(r"/model/layers\.(\d+)/final_norm_layernorm/")


def scope_of(node: onnx.NodeProto) -> str:
    """Path of the module that a node computes, or of the innermost module around it."""
    name = node.name.removeprefix("/").replace("/attn/", "/self_attn/")
    return f"{name.replace('/', '.')}."


def end_of_block(graph: onnx.GraphProto) -> None:
    """Adds the update of the last layer to its hidden state in a node of that layer instead of in the norm after it."""
    named = ((index, FINAL_NORM.match(node.name)) for index, node in enumerate(graph.node))
    index, found = next((index, found) for index, found in named if found)
    norm, layer = graph.node[index], f"/model/layers.{int(found[1]) - 1}"
    residual = next(value for value in graph.value_info if value.name == norm.input[0])
    total = graph.value_info.add()
    total.CopyFrom(residual)
    total.name = f"{layer}/output_0"
    added = onnx.helper.make_node("Add", norm.input[:2], [total.name], f"{layer}/Add")
    norm.op_type, norm.domain = "SimplifiedLayerNormalization", ""
    norm.input[:] = [total.name, norm.input[2]]
    graph.node.insert(index, added)


def cut(model: onnx.ModelProto, scope: str) -> None:
    """Keeps only the nodes of a module; tensors from other nodes become inputs, tensors for other nodes outputs.

    Sizes that other nodes compute (a number of tokens, say) are still computed, because their values matter. The first
    output is the return value of the module; the cache follows.

    Args:
        model: Exported model with the types of its tensors; modified in place.
        scope: Path of the module.

    Raises:
        ProgramError: No node is of this module.
    """
    graph = model.graph
    own = {index for index, node in enumerate(graph.node) if scope_of(node).startswith(f"{scope}.")}
    if not own:
        raise ProgramError(f"the graph names no node of {scope!r}; it cannot be timed alone")
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
    return tensor.elem_type in INTEGERS and len(tensor.shape.dim) <= 2
