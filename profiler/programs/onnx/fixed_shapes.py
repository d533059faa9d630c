"""Graphs for providers that take fixed shapes only, or products of matrices in two dimensions only."""

from collections.abc import Mapping, Sequence

import onnx

from adaptare.profiler.programs.onnx.rows import flatten


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


def flatten_products(model: onnx.ModelProto) -> None:
    """Gives each product of activations with a constant matrix two dimensions; see `flatten`."""
    graph = model.graph
    matrices = {tensor.name for tensor in graph.initializer if len(tensor.dims) == 2}
    flatten(graph, [node.output[0] for node in graph.node if node.op_type == "MatMul" and node.input[1] in matrices])
