"""Insertion of adapters into the graph of a base, without loading its weights.

Every function modifies the given graph. Weights stay in the base's external-data file, shared by all graphs in its
folder. An adapter adds x A B to the product of its linear; any scale is already included in B.
"""

import copy
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from adaptare.profiler.programs.onnx.base import OnnxBase, SiteTensors, adapter_inputs

RowHalves = tuple[NDArray[np.float32], NDArray[np.float32]]
Widths = tuple[int, int]
ALIGNMENT = 4096


def load_graph(base: OnnxBase) -> onnx.ModelProto:
    """The graph of a base; its weights stay in their file."""
    return onnx.load(base.model, load_external_data=False)


def is_graph(file: Path) -> bool:
    """True if a file exists and is a graph; after a power failure it may be truncated."""
    try:
        return bool(onnx.load(file, load_external_data=False).graph.node)
    except Exception:  # missing file, or the parser's own exceptions, whose types are not public
        return False


def data_of(graph: Path) -> Path:
    """Data file of a graph, for weights that it does not share."""
    return graph.with_name(f"{graph.name}.data")


def add_swappable(model: onnx.ModelProto, sites: Mapping[str, SiteTensors], widths: Mapping[str, Widths]) -> None:
    """Adds adapters whose A, shape (in, rank), and B, shape (rank, out), are inputs; each rank is a separate symbol.

    Args:
        model: Graph of the base, quantised or not.
        sites: Sites that carry an adapter.
        widths: Module path -> (in, out).
    """
    for path in sites:
        _declare_inputs(model.graph, path, widths[path])
    _add_adapters(model.graph, sites)


def add_static(model: onnx.ModelProto, sites: Mapping[str, SiteTensors], adapter: Mapping[str, RowHalves]) -> None:
    """Adds adapters whose weights are constants of the graph; the base may be quantised."""
    for path, halves in adapter.items():
        for name, half in zip(adapter_inputs(path), halves, strict=True):
            model.graph.initializer.append(numpy_helper.from_array(half, name))
    _add_adapters(model.graph, {path: sites[path] for path in adapter})


def add_defaults(model: onnx.ModelProto, widths: Mapping[str, Widths]) -> None:
    """Gives swappable adapters rank 0 as their default, so that a graph without them computes its base."""
    for path, (width_in, width_out) in widths.items():
        for name, shape in zip(adapter_inputs(path), ((width_in, 0), (0, width_out)), strict=True):
            model.graph.initializer.append(numpy_helper.from_array(np.zeros(shape, np.float32), name))


def add_folded(model: onnx.ModelProto, sites: Mapping[str, SiteTensors], widths: Mapping[str, Widths]) -> None:
    """Replaces every weight by W + A B, computed in each run, with A and B as inputs.

    This is merging without a weights file per adapter: the merged reference for output checks. Rank 0 leaves a site
    unchanged.
    """
    before = {}
    for path, tensors in sites.items():
        _declare_inputs(model.graph, path, widths[path])
        product, folded = f"{path}/AB", f"{path}/W+AB"
        before[tensors.output] = [
            helper.make_node("MatMul", list(adapter_inputs(path)), [product], f"{path}/AB"),
            helper.make_node("Add", [tensors.weight, product], [folded], f"{path}/fold"),
        ]
    nodes = []
    for node in model.graph.node:
        added = before.get(node.output[0], [])
        if added:
            node.input[1] = added[-1].output[0]
        nodes += [*added, node]
    replace_entries(model.graph.node, nodes)


def change_weights(model: onnx.ModelProto, weights: Mapping[str, NDArray[Any]], data: Path) -> None:
    """Replaces the values of initializers; the new values are written to a separate file.

    Args:
        model: Modified in place.
        weights: Name of an initializer -> its new value.
        data: The new file, which must end up in the folder of the graph.
    """
    with data.open("wb") as file:
        for tensor in model.graph.initializer:
            if tensor.name in weights:
                append_weight(tensor, weights[tensor.name], file, data.name)


def fold_transposes(model: onnx.ModelProto, data: Path) -> None:
    """Transposes weights in the file, so that no product needs a Transpose node, which hides it from quantisers.

    Args:
        model: Its nodes are modified.
        data: The weights file; it grows if a weight is needed in both layouts, as with tied embeddings.
    """
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    uses = Counter(name for node in model.graph.node for name in node.input)
    turned = [node for node in model.graph.node if node.op_type == "Transpose" and node.input[0] in weights]
    with data.open("r+b") as file:
        for node in turned:
            weight = weights[node.input[0]]
            if len(weight.dims) != 2:
                continue
            values = read_weight(weight, data.parent).T
            tensor = TensorProto(name=node.output[0], data_type=weight.data_type, dims=values.shape)
            place = {entry.key: entry.value for entry in weight.external_data}
            if uses[weight.name] == 1 and place:
                file.seek(int(place.get("offset", 0)))
                write_weight(tensor, values, file, data.name)
            else:
                append_weight(tensor, values, file, data.name)
            model.graph.initializer.append(tensor)
            if uses[weight.name] == 1:
                model.graph.initializer.remove(weight)
            model.graph.node.remove(node)


def append_weight(tensor: TensorProto, values: NDArray[Any], file: IO[bytes], location: str) -> None:
    """Writes values at the end of the file, aligned to a page; see `write_weight`."""
    file.seek(math.ceil(file.seek(0, os.SEEK_END) / ALIGNMENT) * ALIGNMENT)
    write_weight(tensor, values, file, location)


def write_weight(tensor: TensorProto, values: NDArray[Any], file: IO[bytes], location: str) -> None:
    """Writes values at the current file position, and makes the tensor refer to them."""
    place = {"location": location, "offset": str(file.tell()), "length": str(values.nbytes)}
    file.write(np.ascontiguousarray(values).tobytes())
    tensor.dims[:] = values.shape
    tensor.ClearField("raw_data")
    del tensor.external_data[:]
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in place.items():
        tensor.external_data.add(key=key, value=value)


def weight_bytes(model: onnx.ModelProto) -> int:
    """Bytes of all initializers, inline or external."""
    width = helper.tensor_dtype_to_np_dtype
    return sum(width(tensor.data_type).itemsize * math.prod(tensor.dims) for tensor in model.graph.initializer)


def read_weight(tensor: TensorProto, folder: Path) -> NDArray[Any]:
    """Values of an initializer, inline or external; the graph still refers to the file."""
    values: NDArray[Any] = numpy_helper.to_array(tensor, str(folder))
    return values


def _declare_inputs(graph: onnx.GraphProto, path: str, widths: Widths) -> None:
    A, B = adapter_inputs(path)
    rank = f"rank.{path}"
    graph.input.extend(
        [
            helper.make_tensor_value_info(A, TensorProto.FLOAT, [widths[0], rank]),
            helper.make_tensor_value_info(B, TensorProto.FLOAT, [rank, widths[1]]),
        ]
    )


def _add_adapters(graph: onnx.GraphProto, sites: Mapping[str, SiteTensors]) -> None:
    """Computes x A B after the linear, added to its product before any bias."""
    paths = {tensors.output: path for path, tensors in sites.items()}
    nodes = []
    for node in graph.node:
        nodes.append(node)
        path = paths.get(node.output[0])
        if path is None:
            continue
        A, B = adapter_inputs(path)
        own, inner, update = f"{path}/xW", f"{path}/xA", f"{path}/xAB"
        node.output[0] = own
        nodes += [
            helper.make_node("MatMul", [sites[path].input, A], [inner], f"{path}/A"),
            helper.make_node("MatMul", [inner, B], [update], f"{path}/B"),
            helper.make_node("Add", [own, update], [sites[path].output], f"{path}/add"),
        ]
    replace_entries(graph.node, nodes)


def replace_entries(field: Any, entries: Sequence[Any]) -> None:
    """Replaces the content of a repeated field of a graph; entries may be of that field."""
    copies = [copy.deepcopy(entry) for entry in entries]
    del field[:]
    field.extend(copies)
