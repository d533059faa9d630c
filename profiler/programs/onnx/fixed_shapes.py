"""Graphs for providers that take fixed shapes only, or products of matrices in two dimensions only."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from adaptare.profiler.programs.onnx.surgery import replace_entries


def fix_shapes(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> None:
    """Replaces the symbols in the shapes of inputs by numbers; other shapes follow from them when it is loaded.

    Args:
        model: Modified in place.
        shapes: Name of each input -> its shape.
    """
    for value in model.graph.input:
        for size, number in zip(value.type.tensor_type.shape.dim, shapes[value.name], strict=True):
            size.dim_value = number
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")


def flatten_products(model: onnx.ModelProto, *, batch: int) -> None:
    """Gives each product of activations with a constant matrix two dimensions, between two reshapings.

    Args:
        model: Modified in place; its activations have shape (batch, tokens, width).
        batch: Sequences processed together.
    """
    weights = {tensor.name: tensor.dims for tensor in model.graph.initializer if len(tensor.dims) == 2}
    nodes, sizes = [], dict[str, list[int]]()
    for node in model.graph.node:
        weight = weights.get(node.input[1]) if node.op_type == "MatMul" else None
        if weight is None:
            nodes.append(node)
            continue
        rows, columns = weight
        x, y = node.input[0], node.output[0]
        flat, product = f"{node.name or y}/rows", f"{node.name or y}/product"
        sizes |= {f"rows of {rows}": [-1, rows], f"tokens of {columns}": [batch, -1, columns]}
        nodes += [
            helper.make_node("Reshape", [x, f"rows of {rows}"], [flat], flat),
            helper.make_node("MatMul", [flat, node.input[1]], [product], node.name),
            helper.make_node("Reshape", [product, f"tokens of {columns}"], [y], f"{product}/tokens"),
        ]
    replace_entries(model.graph.node, nodes)
    for name, shape in sizes.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(shape, dtype=np.int64), name))
