"""A base with an adapter as a self-contained ONNX model: `model.onnx` and `model.onnx.data` in another folder.

The base's files are copied, not shared: the model can be moved, and the onnx package does not read linked data.
"""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from adaptare.profiler.programs.onnx.base import DATA, MODEL, OnnxBase, adapter_inputs
from adaptare.profiler.programs.onnx.quantise import pack_int4, quantise, quantised_original
from adaptare.profiler.programs.onnx.surgery import (
    Halves,
    add_static,
    add_swappable,
    load_graph,
    read_weight,
)

Adapter = Mapping[str, Halves]
Weights = Mapping[str, NDArray[np.float32]]


def write_onnx_merged(base: OnnxBase, adapter: Adapter, folder: Path) -> None:
    """Writes a model in which every weight of an adapted site is W + A B; the base is in floating point.

    Args:
        base: Base to copy.
        adapter: Module path -> A, shape (in, rank), and B, shape (rank, out), scale included.
        folder: Existing folder, different from the base's.
    """
    model = _copied(base, folder)
    paths = {base.sites[path].weight: path for path in adapter}
    for tensor in model.graph.initializer:
        if tensor.name in paths:
            A, B = adapter[paths[tensor.name]]
            _overwrite(tensor, read_weight(tensor, folder) + A @ B, folder)
    onnx.save(model, folder / MODEL)


def write_onnx_weights(base: OnnxBase, weights: Weights, folder: Path) -> None:
    """Writes a model with other weights at some sites; the base is in floating point.

    Args:
        base: Base to copy.
        weights: Module path -> new weight, shape (in, out).
        folder: Existing folder, different from the base's.
    """
    model = _copied(base, folder)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for path, weight in weights.items():
        _overwrite(tensors[base.sites[path].weight], weight, folder)
    onnx.save(model, folder / MODEL)


def write_onnx_requantised(base: OnnxBase, weights: Weights, folder: Path, quantisation: str) -> None:
    """Replaces weights in floating point and then quantises; arguments as in `write_onnx_weights`."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".merged-") as place:
        write_onnx_weights(base, weights, Path(place))
        quantise(Path(place) / MODEL, folder / MODEL, quantisation)


def write_onnx_codes(base: OnnxBase, codes: Mapping[str, NDArray[np.uint8]], folder: Path) -> None:
    """Writes a model with other integer weights at some sites, and the scales of the base, which is of 4 bits.

    Args:
        base: Base to copy.
        codes: Module path -> codes 0 to 15, of which 8 is zero. Shape (out, in).
        folder: Existing folder, different from the base's.
    """
    model = _copied(base, folder)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    packed = {quantised_original(node): node.input[1] for node in model.graph.node if node.op_type == "MatMulNBits"}
    for path, integers in codes.items():
        _overwrite(tensors[packed[base.sites[path].weight]], pack_int4(integers), folder)
    onnx.save(model, folder / MODEL)


def write_onnx_static(base: OnnxBase, adapter: Adapter, folder: Path) -> None:
    """Writes the adapter unmerged, as constants; arguments as in `write_onnx_merged`, the base quantised or not."""
    model = _copied(base, folder)
    add_static(model, base.sites, adapter)
    onnx.save(model, folder / MODEL)


def write_onnx_swappable(base: OnnxBase, adapter: Adapter, folder: Path) -> None:
    """Writes a model with optional inputs A and B for every site of the adapter; without them it computes the base.

    Arguments as in `write_onnx_merged`, the base quantised or not. The values of A and B are not written.
    """
    model = _copied(base, folder)
    widths = {path: (A.shape[0], B.shape[1]) for path, (A, B) in adapter.items()}
    add_swappable(model, {path: base.sites[path] for path in adapter}, widths)
    for path, (width_in, width_out) in widths.items():
        for name, shape in zip(adapter_inputs(path), ((width_in, 0), (0, width_out)), strict=True):
            model.graph.initializer.append(numpy_helper.from_array(np.zeros(shape, np.float32), name))
    onnx.save(model, folder / MODEL)


def _copied(base: OnnxBase, folder: Path) -> onnx.ModelProto:
    """Graph of a base, with its data copied."""
    if base.graph == MODEL:
        shutil.copyfile(base.folder / DATA, folder / DATA)
        return load_graph(base)
    whole = onnx.load(base.model)  # a narrowed base has its weights in two files
    onnx.save(whole, folder / MODEL, save_as_external_data=True, location=DATA)
    return onnx.load(folder / MODEL, load_external_data=False)


def _overwrite(tensor: TensorProto, values: NDArray[Any], folder: Path) -> None:
    """Overwrites a tensor in place with values of the same shape and dtype, in the data file or in the graph."""
    if tensor.data_location != TensorProto.EXTERNAL:
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        return
    place = {entry.key: entry.value for entry in tensor.external_data}
    with (folder / place["location"]).open("r+b") as file:
        file.seek(int(place.get("offset", 0)))
        file.write(np.ascontiguousarray(values).tobytes())
