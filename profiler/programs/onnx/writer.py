"""The place where graphs with adapters are written: a base and an adapter in, one file out."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from adaptare.profiler.programs.onnx.adapters import add_defaults, add_folded, add_static, add_swappable
from adaptare.profiler.programs.onnx.base import DATA, MODEL, OnnxBase
from adaptare.profiler.programs.onnx.packed import pack
from adaptare.profiler.programs.onnx.quantise import quantise, quantised_original
from adaptare.profiler.programs.onnx.surgery import (
    append_weight,
    change_weights,
    data_of,
    load_graph,
    read_weight,
    replace_entries,
)
from adaptare.profiler.workloads.sub_adapter import SubAdapter

# Constants of the graph; its inputs; inputs with rank 0 as their default; inputs that are multiplied and added to the
# weight in every call; or added to the weight for good.
Application = Literal["static", "swappable", "optional", "folded", "merged"]
Weights = Mapping[str, NDArray[Any]]


def write_graph(
    adapted: SubAdapter[OnnxBase],
    file: Path,
    *,
    application: Application,
    weights: Weights | None = None,
    quantisation: str = "none",
    tied: bool = True,
    packs: bool = True,
) -> None:
    """Writes the graph of a base with an adapter.

    Args:
        adapted: Adapter by module path in the graph, and the base, quantised or not; it is in floating point if its
            weights change.
        file: New file, with data that it does not share with the base in `FILE.data`; both end up in the folder of the
            base.
        application: Form of the adapter in the graph. Only the sizes of inputs are used, not their values.
        weights: Name of an initializer of the base -> its new value.
        quantisation: Quantisation of the written graph, of a base in floating point.
        tied: See `quantise`.
        packs: Packs q, k and v where none of them carries an adapter; see `pack`.
    """
    base = adapted.base
    model, new = load_graph(base), dict(weights or {})
    rows = {path: halves.of_rows for path, halves in adapted.halves.items()}
    sites = {path: base.sites[path] for path in rows}
    sizes = {path: (len(A), B.shape[1]) for path, (A, B) in rows.items()}
    if application == "merged":
        tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        for path, (A, B) in rows.items():
            new[sites[path].weight] = read_weight(tensors[sites[path].weight], base.folder) + A @ B
    if packs and application != "folded":
        pack(model, base, new, adapted=() if application == "merged" else rows)
    if application == "static":
        add_static(model, base.sites, rows)
    elif application == "folded":
        add_folded(model, sites, sizes)
    elif application != "merged":
        add_swappable(model, sites, sizes)
        if application == "optional":
            add_defaults(model, sizes)
    if quantisation != "none":
        onnx.load_external_data_for_model(model, str(base.folder))
        for tensor in model.graph.initializer:
            if tensor.name in new:
                tensor.CopyFrom(numpy_helper.from_array(new[tensor.name], tensor.name))
        quantise(model, file, quantisation, tied=tied)
        return
    if new:
        change_weights(model, new, data_of(file))
    onnx.save(model, file)


def write_model(
    adapted: SubAdapter[OnnxBase],
    folder: Path,
    *,
    application: Application,
    weights: Weights | None = None,
    quantisation: str = "none",
) -> None:
    """Writes a graph with all its weights as `model.onnx` and `model.onnx.data` into a folder, which can be moved.

    Arguments as in `write_graph`.

    Args:
        folder: Existing folder.
    """
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".graph-") as place:
        graph = Path(place) / "new.onnx"  # its data has another name than that of the base
        write_graph(adapted, graph, application=application, weights=weights, quantisation=quantisation)
        model = onnx.load(graph, load_external_data=False)
        with (folder / DATA).open("wb") as file:
            written = dict[str, onnx.TensorProto]()  # by its place before; two tensors may share one
            for tensor in model.graph.initializer:
                if tensor.data_location != TensorProto.EXTERNAL:
                    continue
                before = str(tensor.external_data)
                if before in written:
                    replace_entries(tensor.external_data, written[before].external_data)
                    continue
                place_of = {entry.key: entry.value for entry in tensor.external_data}
                own = (graph.parent / place_of["location"]).exists()
                values = read_weight(tensor, graph.parent if own else adapted.base.folder)
                append_weight(tensor, values, file, DATA)
                written[before] = tensor
        onnx.save(model, folder / MODEL)


def code_names(base: OnnxBase) -> dict[str, str]:
    """Module path -> name of the initializer with the integer codes of its weight, in a base of 4 or 8 bits."""
    nodes = [node for node in load_graph(base).graph.node if node.op_type == "MatMulNBits"]
    packed = {quantised_original(node): node.input[1] for node in nodes}
    return {path: packed[tensors.weight] for path, tensors in base.sites.items()}
