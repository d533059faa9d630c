"""A base with an adapter as an ONNX model that stands alone: `model.onnx` and `model.onnx.data` in another folder.

Nothing is shared with the base, whose files are copied: they may be moved, and the onnx package reads no linked data.
"""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from adaptare.profiler.programs.onnx.base import DATA, MODEL, OnnxBase, adapter_inputs
from adaptare.profiler.programs.onnx.quantise import quantise
from adaptare.profiler.programs.onnx.surgery import (
    Halves,
    add_static,
    add_swappable,
    load_graph,
    read_weight,
    save_graph,
)

Adapter = Mapping[str, Halves]


def write_onnx_merged(base: OnnxBase, adapter: Adapter, folder: Path) -> None:
    """Every weight of an adapted site is W + A B; the base is in floating point.

    Args:
        base: What is copied.
        adapter: Module path -> A, shape (in, rank), and B, shape (rank, out), scale included.
        folder: Exists, and lies elsewhere than the base.
    """
    model = _copied(base, folder)
    paths = {base.sites[path].weight: path for path in adapter}
    for tensor in model.graph.initializer:
        if tensor.name in paths:
            A, B = adapter[paths[tensor.name]]
            _overwrite(tensor, read_weight(tensor, folder) + A @ B, folder)
    save_graph(model, folder / MODEL)


def write_onnx_requantised(base: OnnxBase, adapter: Adapter, folder: Path, quantisation: str) -> None:
    """Merged in floating point, and quantised then; arguments as of `write_onnx_merged`."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".merged-") as place:
        write_onnx_merged(base, adapter, Path(place))
        quantise(Path(place) / MODEL, folder / MODEL, quantisation)


def write_onnx_static(base: OnnxBase, adapter: Adapter, folder: Path) -> None:
    """The adapter beside the weights, as constants; arguments as of `write_onnx_merged`, the base quantised or not."""
    model = _copied(base, folder)
    add_static(model, base.sites, adapter)
    save_graph(model, folder / MODEL)


def write_onnx_swappable(base: OnnxBase, adapter: Adapter, folder: Path) -> None:
    """A and B of every site of the adapter are inputs, which may be left out: the model is the base then.

    Arguments as of `write_onnx_merged`, the base quantised or not. The values of A and B are not written.
    """
    model = _copied(base, folder)
    widths = {path: (A.shape[0], B.shape[1]) for path, (A, B) in adapter.items()}
    add_swappable(model, {path: base.sites[path] for path in adapter}, widths)
    for path, (width_in, width_out) in widths.items():
        for name, shape in zip(adapter_inputs(path), ((width_in, 0), (0, width_out)), strict=True):
            model.graph.initializer.append(numpy_helper.from_array(np.zeros(shape, np.float32), name))
    save_graph(model, folder / MODEL)


def _copied(base: OnnxBase, folder: Path) -> onnx.ModelProto:
    """The graph of a base whose data are copied."""
    if base.graph == MODEL:
        shutil.copyfile(base.folder / DATA, folder / DATA)
        return load_graph(base)
    whole = onnx.load(base.model)  # its weights are in two files
    onnx.save(whole, folder / MODEL, save_as_external_data=True, location=DATA)
    return onnx.load(folder / MODEL, load_external_data=False)


def _overwrite(tensor: TensorProto, values: np.ndarray[tuple[int, ...], np.dtype[np.float32]], folder: Path) -> None:
    """Other values of the same shape, where the old ones are: in the file of the data or in the graph."""
    if tensor.data_location != TensorProto.EXTERNAL:
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        return
    place = {entry.key: entry.value for entry in tensor.external_data}
    with (folder / place["location"]).open("r+b") as file:
        file.seek(int(place.get("offset", 0)))
        file.write(np.ascontiguousarray(values, dtype=np.float32).tobytes())
