"""Activations in two dimensions, (batch x tokens, width), which some operators and runtimes need."""

import copy
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from adaptare.profiler.programs.onnx.surgery import replace_entries

# They compute each row of their inputs on its own, of two dimensions as of three.
NORMS = {f"{skip}{kind}LayerNormalization" for skip in ("", "Skip") for kind in ("", "Simplified")}
ROW_BY_ROW = NORMS | {"Add", "Cast", "Div", "FastGelu", "Gelu", "Mul", "QuickGelu", "Relu", "Sigmoid", "Sub", "Tanh"}
PRODUCTS = {"MatMul", "MatMulNBits"}
# They leave out tokens, as in front of logits of the last one.
SELECTIONS = {"Gather", "GatherElements", "Slice", "Unsqueeze"}
# Initializer and tensor: the width is left to be found; batch, tokens and that.
WIDTH, TOKENS = "width_of_rows", "batch_tokens_width"
# Ends of the names of tensors in two dimensions, and again in three.
ROWS, OPEN = "/rows", "/tokens"


def flatten(graph: onnx.GraphProto, products: Collection[str]) -> int:
    """Gives products, and what follows them row by row, inputs and outputs of two dimensions.

    Inputs and outputs of the graph, and of all other operators, stay as they are.

    Args:
        graph: Modified in place; its activations have shape (batch, tokens, width). It may be flattened in part.
        products: Output tensor of each product of activations with a constant matrix.

    Returns:
        Number of nodes that were added.
    """
    constant = {tensor.name for tensor in graph.initializer}
    constant |= {node.output[0] for node in graph.node if node.op_type == "Constant"}
    fed, results = {value.name for value in graph.input}, {value.name for value in graph.output}
    nodes: list[onnx.NodeProto] = []
    # Tensor -> its name in two dimensions, the same if it has no other form; and -> its name in three.
    flat, open_again = dict[str, str](), dict[str, str]()
    width = {tensor.name: tensor.dims[-1] for tensor in graph.initializer if len(tensor.dims) == 2}
    splits = {node.input[1]: node.output[0] for node in graph.node if node.op_type == "Split" and len(node.input) > 1}
    # First output of each split -> widths of all.
    parts = {splits[each.name]: numpy_helper.to_array(each) for each in graph.initializer if each.name in splits}
    shapes = {TOKENS} & {name for node in graph.node for name in node.output}
    # Not the embedding, whose rows the input selects.
    chosen = [node for node in graph.node if node.op_type in SELECTIONS and constant.issuperset(node.input[1:])]
    selected = {name for node in chosen for name in node.output}
    # Tensor of two dimensions -> the shape of three that it came from, if that has other tokens than most.
    shape_of = dict[str, str]()

    def rows(name: str) -> str:
        if name not in flat:
            flat[name] = f"{name}{ROWS}"
            nodes.append(helper.make_node("Flatten", [name], [flat[name]], flat[name], axis=2))
            if shapes and name in selected:
                shape_of[flat[name]] = f"{name}/{TOKENS}"
        shape = shape_of.get(flat[name], TOKENS)
        if shape not in shapes:
            if not shapes:
                graph.initializer.append(numpy_helper.from_array(np.array([-1]), WIDTH))
            shapes.add(shape)
            sizes = f"{shape}/sizes"
            nodes.append(helper.make_node("Shape", [name], [sizes], sizes, start=0, end=2))
            nodes.append(helper.make_node("Concat", [sizes, WIDTH], [shape], shape, axis=0))
        return flat[name]

    def tokens(name: str) -> str:
        if name not in open_again:
            open_again[name] = f"{name}{OPEN}"
            if name in width:  # before version 1.31, ONNX Runtime takes an unknown width of packed attention for 0
                sizes = [None, None, width[name]]
                graph.value_info.append(helper.make_tensor_value_info(open_again[name], TensorProto.FLOAT, sizes))
            shape = shape_of.get(name, TOKENS)
            nodes.append(helper.make_node("Reshape", [name, shape], [open_again[name]], open_again[name]))
        return open_again[name]

    renamed = dict[str, str]()
    for node in map(copy.deepcopy, graph.node):
        node.input[:] = [renamed.get(name, name) for name in node.input]
        if node.op_type == "Flatten" and flat.get(node.input[0]) == node.input[0]:  # it has two dimensions by now
            renamed[node.output[0]] = node.input[0]
            continue
        if node.op_type == "Flatten" or TOKENS in node.input:
            flat |= dict.fromkeys(node.output if node.op_type == "Flatten" else (), node.output[0])
            nodes.append(node)
            continue
        product = node.op_type in PRODUCTS and node.input[1] in constant | fed
        places = [0] if product else [place for place, name in enumerate(node.input) if name and name not in constant]
        cut = parts.get(node.output[0])
        follows = product or node.op_type in ROW_BY_ROW or node.op_type == "Gemm" or cut is not None
        if node.output[0] not in products and not (follows and any(node.input[place] in flat for place in places)):
            for place, name in enumerate(node.input):
                if flat.get(name) == name:
                    node.input[place] = tokens(name)
            nodes.append(node)
            continue
        for place in places:
            if node.op_type != "Gemm":
                node.input[place] = rows(node.input[place])
        nodes.append(node)
        shape = next((shape_of[name] for name in node.input if name in shape_of), TOKENS)
        shape_of |= dict.fromkeys(node.output, shape) if shape != TOKENS else {}
        known = [attribute.i for attribute in node.attribute if attribute.name == "N"]
        same = node.input[1:] if product or node.op_type == "Gemm" else node.input
        known += [width[name] for name in same if name in width]
        width |= dict.fromkeys(node.output[:1], known[0]) if known else {}
        width |= {} if cut is None else zip(node.output, cut.tolist(), strict=True)
        for place, name in enumerate(node.output):
            flat |= {name: name} if name else {}
            if name in results:
                node.output[place] = flat[name] = f"{name}{ROWS}"
                nodes.append(helper.make_node("Reshape", [flat[name], shape], [name], f"{name}{OPEN}"))
    added = len(nodes) - len(graph.node)
    replace_entries(graph.node, nodes)
    return added


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
