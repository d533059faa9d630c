"""Graphs of a base and their weights, which stay in its external-data file, shared by all graphs in its folder.

Functions modify the given graph.
"""

import copy
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from adaptare.profiler.programs.onnx.base import OnnxBase, Port

ALIGNMENT = 4096


def load_graph(base: OnnxBase) -> onnx.ModelProto:
    """The graph of a base; its weights stay in their file."""
    return onnx.load(base.model, load_external_data=False)


def port_of(value: onnx.ValueInfoProto) -> Port:
    """Name, type and shape of a tensor that the graph declares."""
    tensor = value.type.tensor_type
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    return Port(value.name, dtype, tuple(size.dim_param or size.dim_value for size in tensor.shape.dim))


def is_graph(file: Path) -> bool:
    """True if a file exists and is a graph; after a power failure it may be truncated."""
    try:
        return bool(onnx.load(file, load_external_data=False).graph.node)
    except Exception:  # missing file, or the parser's own exceptions, whose types are not public
        return False


def data_of(graph: Path) -> Path:
    """Data file of a graph, for weights that it does not share."""
    return graph.with_name(f"{graph.name}.data")


def change_weights(model: onnx.ModelProto, weights: Mapping[str, NDArray[Any]], data: Path) -> None:
    """Replaces the values of initializers; the new values are added to a file.

    Args:
        model: Modified in place.
        weights: Name of an initializer -> its new value.
        data: File that may exist, and must end up in the folder of the graph.
    """
    data.touch()
    with data.open("r+b") as file:
        for tensor in model.graph.initializer:
            if tensor.name in weights:
                append_weight(tensor, weights[tensor.name], file, data.name)


def append_weight(tensor: TensorProto, values: NDArray[Any], file: IO[bytes], location: str) -> None:
    """Writes values at the end of the file, aligned to a page, and makes the tensor refer to them."""
    file.seek(math.ceil(file.seek(0, os.SEEK_END) / ALIGNMENT) * ALIGNMENT)
    place = {"location": location, "offset": str(file.tell()), "length": str(values.nbytes)}
    file.write(np.ascontiguousarray(values).tobytes())
    tensor.dims[:] = values.shape
    tensor.ClearField("raw_data")
    del tensor.external_data[:]
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in place.items():
        tensor.external_data.add(key=key, value=value)


def weight_bytes(model: onnx.ModelProto) -> int:
    """Bytes of all initializers, inline or external; two with one place in a file count once."""
    width = helper.tensor_dtype_to_np_dtype
    places = {str(tensor.external_data) or tensor.name: tensor for tensor in model.graph.initializer}
    return sum(width(tensor.data_type).itemsize * math.prod(tensor.dims) for tensor in places.values())


def location_of(tensor: TensorProto) -> str:
    """Name of the file that holds the values of an initializer; empty if the graph does."""
    return next((entry.value for entry in tensor.external_data if entry.key == "location"), "")


def read_weight(tensor: TensorProto, folder: Path) -> NDArray[Any]:
    """Values of an initializer, inline or external; the graph still refers to the file."""
    values: NDArray[Any] = numpy_helper.to_array(tensor, str(folder))
    return values


def replace_entries(field: Any, entries: Sequence[Any]) -> None:
    """Replaces the content of a repeated field of a graph; entries may be of that field."""
    copies = [copy.deepcopy(entry) for entry in entries]
    del field[:]
    field.extend(copies)
