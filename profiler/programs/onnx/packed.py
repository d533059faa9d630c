"""Linears of one input as a single product, with their weights side by side.

It computes the same with fewer operators, and rounds activations once. Attention takes q, k and v as one tensor. Where
one of them carries an adapter, or a norm follows, the result of the product is split.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from adaptare.profiler.programs.onnx.base import DATA, PACKED, OnnxBase
from adaptare.profiler.programs.onnx.rows import PRODUCTS
from adaptare.profiler.programs.onnx.surgery import (
    change_weights,
    load_graph,
    location_of,
    read_weight,
    replace_entries,
)

ATTENTION = "GroupQueryAttention"
# Ends of the paths of linears of one input, and that of their product.
PARTS, JOINED = ("q_proj", "k_proj", "v_proj"), "qkv_proj"
# Operator -> dimension of its weights that counts outputs: (in, out); (out, blocks, bytes) and (out, blocks); (out,).
OUTPUTS = {"MatMul": 1, "MatMulNBits": 0, "Add": 0}
# Places of weights of a base: its data file, or its graph if they are small.
OF_BASE = (DATA, "")
# Attribute of MatMulNBits with its number of outputs.
WIDTH = "N"
Nodes = Sequence[onnx.NodeProto]


def write_packed(base: OnnxBase) -> None:
    """Writes the graph of a base without adapters, and adds packed weights to the data file of the base."""
    model, new = load_graph(base), dict[str, NDArray[Any]]()
    pack(model, base, new)
    if new:
        change_weights(model, new, base.folder / DATA)
    onnx.save(model, base.packed)


def pack(
    model: onnx.ModelProto, base: OnnxBase, new: dict[str, NDArray[Any]], *, adapted: Collection[str] = ()
) -> None:
    """Packs q, k and v of each layer, and splits the result where attention cannot take it as it is.

    Args:
        model: Graph of the base, quantised or not, before adapters are added; modified in place.
        base: Base whose folder may hold packed weights; the graph then refers to those that are unchanged.
        new: Name of an initializer -> its new value; other packed weights are added here, and replace their parts.
        adapted: Module paths of linears that carry an adapter.
    """
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    makers = {node.output[0]: node for node in graph.node}
    held = {tensor.name: tensor for tensor in _held(base)}
    chains, takers = dict[str, list[Nodes]](), dict[str, onnx.NodeProto]()
    for attention in (node for node in graph.node if node.op_type == ATTENTION):
        found = [_chain(name, makers, tensors) for name in attention.input[:3]]
        if _alike(found):
            first = found[0][0].output[0]
            chains[first], takers[first] = found, attention
    splits = dict[str, list[onnx.NodeProto]]()
    for paths in _of_one_input(base):
        products = [_chain(base.sites[path].output, makers, tensors) for path in paths]
        if not _alike(products):
            continue
        outputs = [product.output[0] for (product,) in products]
        attention = None if set(paths) & set(adapted) else takers.get(outputs[0])
        widths = [_outputs(product, tensors) for (product,) in products]
        for alike in zip(*(chains[outputs[0]] if attention else products), strict=True):
            _join_weights(alike, graph, tensors, held, new, base)
            _join(alike)
            for node in alike[1:]:
                graph.node.remove(node)
        whole = products[0][0].output[0]
        if attention:
            attention.input[:3] = [_packed(attention.input[0]), "", ""]
        else:
            sizes = f"{whole}/widths"
            graph.initializer.append(numpy_helper.from_array(np.array(widths), sizes))
            splits[whole] = [helper.make_node("Split", [whole, sizes], outputs, f"{whole}/split", axis=-1)]
    replace_entries(graph.node, [each for node in graph.node for each in (node, *splits.get(node.output[0], []))])
    used = {name for node in graph.node for name in node.input}
    replace_entries(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in used])


def _of_one_input(base: OnnxBase) -> Iterator[list[str]]:
    """Paths of linears that may be one product."""
    for parent in dict.fromkeys(path.rpartition(".")[0] for path in base.sites):
        paths = [f"{parent}.{name}" for name in PARTS]
        if base.sites.keys() >= set(paths):
            yield paths


def _join_weights(
    alike: Nodes,
    graph: onnx.GraphProto,
    tensors: Mapping[str, onnx.TensorProto],
    held: Mapping[str, onnx.TensorProto],
    new: dict[str, NDArray[Any]],
    base: OnnxBase,
) -> None:
    """Adds the weights of equal operators side by side."""
    for names in zip(*(node.input for node in alike), strict=True):
        parts, name = [tensors[each] for each in names if each in tensors], _packed(names[0])
        if not parts:
            continue
        if name in held and not new.keys() & set(names) and all(location_of(part) in OF_BASE for part in parts):
            graph.initializer.append(held[name])
            continue
        values = [new.pop(each.name) if each.name in new else read_weight(each, base.folder) for each in parts]
        new[name] = np.concatenate(values, axis=OUTPUTS[alike[0].op_type])
        graph.initializer.add(name=name, data_type=parts[0].data_type)


def _outputs(product: onnx.NodeProto, tensors: Mapping[str, onnx.TensorProto]) -> int:
    """Number of outputs of a linear."""
    widths = [attribute.i for attribute in product.attribute if attribute.name == WIDTH]
    return widths[0] if widths else int(tensors[product.input[1]].dims[-1])


def _packed(name: str) -> str:
    """Name of a node, tensor or weight of the packed product, by that of its first part; any other name stays."""
    return name.replace(PARTS[0], JOINED)


def _held(base: OnnxBase) -> list[onnx.TensorProto]:
    """Weights of the packed graph in the folder of a base; none until it is written."""
    file = base.folder / PACKED
    return list(onnx.load(file, load_external_data=False).graph.initializer) if file.exists() else []


def _chain(name: str, makers: Mapping[str, onnx.NodeProto], constants: Collection[str]) -> Nodes:
    """The product that computes a tensor, and the addition of its bias; empty if other operators do."""
    node = makers.get(name)
    if node is None or node.op_type not in OUTPUTS or node.input[1] not in constants:
        return []
    if node.op_type in PRODUCTS:
        return [node]
    product = _chain(node.input[0], makers, constants)
    return [*product, node] if product else []


def _alike(chains: Sequence[Nodes]) -> bool:
    """True if products of one tensor are followed by equal operators."""
    operators = {tuple(node.op_type for node in chain) for chain in chains}
    return all(chains) and len(operators) == 1 and len({product.input[0] for product, *_ in chains}) == 1


def _join(alike: Nodes) -> None:
    """Makes the first of three nodes that of all."""
    node = alike[0]
    width = sum(attribute.i for each in alike for attribute in each.attribute if attribute.name == WIDTH)
    for attribute in node.attribute:
        attribute.i = width if attribute.name == WIDTH else attribute.i
    node.name = _packed(node.name)
    for names in (node.input, node.output):
        names[:] = [_packed(name) for name in names]
