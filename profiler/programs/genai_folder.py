"""Folders of onnxruntime-genai whose graph takes adapters as inputs: names and shapes of those inputs, by site."""

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.core.lazy_names import check_installed
from adaptare.core.strict_json import read_json
from adaptare.profiler.workloads.configuration import Configuration
from adaptare.profiler.workloads.shape import ModelShape
from adaptare.profiler.workloads.sub_adapter import Halves

CONFIG = "genai_config.json"
# Of adaptare, of Olive, and of the model builder: `.lora_A`, `.lora_A.weight`, `/lora_A/MatMul.weight`.
NAME = re.compile(r"/?model[./](layers\.\d+)[./](?:self_)?(attn|mlp)[./](\w+)[./]lora_([AB])\b.*")
DTYPES = ("float32", "float16")
ROUNDING = ("MatMulNBits", "MatMulInteger", "DynamicQuantizeMatMul", "DequantizeLinear", "MatMulBnb4")
FLOAT = 1  # `onnx.TensorProto.FLOAT`


@dataclass(frozen=True)
class AdapterInputs:
    """Inputs of a graph for the adapter of one linear.

    Args:
        names: Of A, shape (in, rank), and of B, shape (rank, out).
        width_in: Values that the linear takes.
        width_out: Values that it returns.
        rank: The only rank that the graph takes; `None` if it takes any.
        dtype: Data type of both.
        optional: True if both have a default.
    """

    names: tuple[str, str]
    width_in: int
    width_out: int
    rank: int | None
    dtype: np.dtype[Any]
    optional: bool


def decoder_of(folder: Path) -> Mapping[str, Any]:
    """Settings of the decoder in `genai_config.json`. Raises `InputError`."""
    if not (folder / CONFIG).is_file():
        raise InputError(f"{str(folder)!r} is no folder of onnxruntime-genai: it has no {CONFIG}")
    try:
        decoder = {"filename": "model.onnx", **read_json(folder / CONFIG)["model"]["decoder"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{str(folder)!r}: its {CONFIG} names no decoder; build the folder again") from error
    name = decoder["filename"]
    if not isinstance(name, str) or Path(name).name != name:
        raise InputError(f"{str(folder)!r}: filename in {CONFIG} must be that of a file in the folder, not {name!r}")
    return decoder


def check_base(folder: Path, shape: ModelShape, *, layers: int) -> None:
    """Raises `InputError` if the model in a folder has other sizes than a base with so many layers."""
    decoder = decoder_of(folder)
    sizes = {"hidden_size": shape.hidden, "num_hidden_layers": layers, "num_attention_heads": shape.heads}
    sizes |= {"num_key_value_heads": shape.kv_heads, "head_size": shape.head_dim}
    for name, size in sizes.items():
        if decoder.get(name, size) != size:
            raise InputError(
                f"{str(folder)!r} is of another base: its {name} is {decoder[name]}, and that of the adapter's base "
                f"is {size}; name the folder of that base"
            )


def rounds(folder: Path) -> bool:
    """True if the graph of a folder computes with weights or activations of fewer than 32 bits."""
    graph = _graph(folder)
    few = any(node.op_type in ROUNDING for node in graph.node)
    return few or any(output.type.tensor_type.elem_type != FLOAT for output in graph.output)


def _graph(folder: Path) -> Any:
    check_installed("onnx")
    import onnx

    file = folder / decoder_of(folder)["filename"]
    try:
        return onnx.load(file, load_external_data=False).graph
    except Exception as error:  # missing file, or the parser's own exceptions, whose types are not public
        raise InputError(f"{str(file)!r} cannot be read as a graph; build the folder again") from error


def adapter_inputs_of(folder: Path) -> dict[str, AdapterInputs]:
    """Module path -> inputs of its adapter. Raises `InputError` if the graph takes none."""
    graph = _graph(folder)
    values: dict[str, dict[str, Any]] = {}
    for value in graph.input:
        if found := NAME.fullmatch(value.name):
            values.setdefault(_path(found), {})[found[4]] = value
    if not values:
        raise InputError(
            f"{str(folder)!r} takes no adapters: its graph has no input such as model.layers.0.mlp.up_proj.lora_A; "
            "build it with adapters as inputs (Olive's ExtractAdapters), or export a model that takes them"
        )
    defaults = {tensor.name for tensor in graph.initializer}
    return {path: _inputs(pair["A"], pair["B"], defaults) for path, pair in values.items() if len(pair) == len("AB")}


def _inputs(A: Any, B: Any, defaults: set[str]) -> AdapterInputs:
    import onnx

    (width_in, rank), (same_rank, width_out) = (
        [size.dim_value for size in x.type.tensor_type.shape.dim] for x in (A, B)
    )
    dtype = onnx.helper.tensor_dtype_to_np_dtype(A.type.tensor_type.elem_type)
    if dtype.name not in DTYPES:
        raise InputError(f"the graph takes adapters of type {dtype}, and only {' and '.join(DTYPES)} are written")
    names = A.name, B.name
    return AdapterInputs(
        names, width_in, width_out, rank or same_rank or None, dtype, optional=defaults.issuperset(names)
    )


def as_inputs(
    halves: Mapping[str, Halves], inputs: Mapping[str, AdapterInputs], folder: str
) -> dict[str, NDArray[Any]]:
    """Values of an adapter by the names of a graph's inputs.

    A smaller rank than the only one that a graph takes is filled up with zeros, as are sites without adapter that have
    no default.

    Raises:
        InputError: The graph lacks a site, or takes another width or a smaller rank.
    """
    for path, own in halves.items():
        A, B = own.of_rows
        check_site(path, (len(A), own.rank, B.shape[1]), inputs, folder)
    values: dict[str, NDArray[Any]] = {}
    for path, place in inputs.items():
        if path not in halves and place.optional:
            continue
        zero = np.zeros((place.width_in, 0), np.float32), np.zeros((0, place.width_out), np.float32)
        A, B = halves[path].of_rows if path in halves else zero
        missing = (0, max(0, (place.rank or 0) - len(B)))
        pair = np.pad(A, ((0, 0), missing)), np.pad(B, (missing, (0, 0)))
        values |= {name: half.astype(place.dtype) for name, half in zip(place.names, pair, strict=True)}
    return values


def check_site(path: str, sizes: tuple[int, int, int], inputs: Mapping[str, AdapterInputs], folder: str) -> None:
    """Raises `InputError` if a graph does not take an adapter of these sizes, (in, rank, out), on a linear."""
    if path not in inputs:
        raise InputError(
            f"{folder!r} takes no adapter on {path}; it takes them on {len(inputs)} others, such as "
            f"{next(iter(inputs))}; choose an adapter of those sites, or build the folder with that site"
        )
    place, (width_in, rank, width_out) = inputs[path], sizes
    for word, there, here in (("takes", place.width_in, width_in), ("returns", place.width_out, width_out)):
        if there != here:
            raise InputError(
                f"{folder!r} is of another base: {path} {word} {there} values there, and {here} in the adapter"
            )
    if place.rank is not None and rank > place.rank:
        raise InputError(
            f"{folder!r} takes rank {place.rank} at {path}, and the adapter has {rank}; cut the adapter to that "
            "rank, or build the folder with ranks that are free"
        )


def read_adapter_file(file: Path, shape: ModelShape) -> Configuration:
    """Sites and ranks of an adapter file of ONNX Runtime. Raises `InputError`."""
    check_installed("onnxruntime")
    onnxruntime = importlib.import_module("onnxruntime")
    try:
        tensors = onnxruntime.AdapterFormat.read_adapter(str(file)).get_parameters()
    except Exception as error:  # the library's own exceptions, whose types are not public
        raise InputError(f"{str(file)!r} is no adapter file of ONNX Runtime: {error}") from error
    found = ((NAME.fullmatch(name), tensor.shape()) for name, tensor in tensors.items())
    ranks = {_path(name): shape[1] for name, shape in found if name and name[4] == "A" and shape[1]}
    if not ranks:
        raise InputError(f"{str(file)!r} has no tensor such as model.layers.0.mlp.up_proj.lora_A; export it again")
    return Configuration.of(ranks).on(shape)


def _path(name: re.Match[str]) -> str:
    return f"model.{name[1]}.{'self_attn' if name[2] == 'attn' else 'mlp'}.{name[3]}"
