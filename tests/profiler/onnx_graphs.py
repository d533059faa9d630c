"""What tests of ONNX graphs share: copies of a base, adapters, and what is in a file."""

import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from transformers import PreTrainedModel

from adaptare.profiler import Configuration
from adaptare.profiler.programs.onnx.adapters import RowHalves
from adaptare.profiler.programs.onnx.base import OnnxBase, adapter_inputs
from adaptare.profiler.workloads.sub_adapter import Halves, SubAdapter

Adapter = Mapping[str, RowHalves]
Arrays = dict[str, NDArray[Any]]
Export = Callable[..., tuple[PreTrainedModel, OnnxBase]]
Inputs = Callable[..., Arrays]
Logits = Callable[[PreTrainedModel, Mapping[str, NDArray[Any]]], NDArray[np.float32]]

PARTS = [f"self_attn.{half}_proj." for half in "qkv"]


def beside(base: OnnxBase, folder: Path) -> OnnxBase:
    """The same base in another folder, where graphs may be written."""
    shutil.copytree(base.folder, folder, dirs_exist_ok=True)
    return OnnxBase.load(folder)


def halves_of(model: PreTrainedModel, path: str, rank: int) -> RowHalves:
    rng, linear = np.random.default_rng(9), model.get_submodule(path)
    A = rng.standard_normal((linear.in_features, rank)) * linear.in_features**-0.5
    B = 0.3 * rng.standard_normal((rank, linear.out_features))
    return A.astype(np.float32), B.astype(np.float32)


def mixed(model: PreTrainedModel, base: OnnxBase) -> Adapter:
    """Ranks of 1 to 6 on half of the sites, drawn at random."""
    rng = np.random.default_rng(len(base.sites))
    chosen = rng.permutation(list(base.sites))[: len(base.sites) // 2]
    return {str(path): halves_of(model, path, rng.integers(1, 7)) for path in sorted(chosen)}


def sub_adapter(base: OnnxBase, adapter: Adapter) -> SubAdapter[OnnxBase]:
    return SubAdapter(Configuration(), {path: Halves(A.T, B.T) for path, (A, B) in adapter.items()}, base)


def fed(adapter: Adapter, *, width: int = 0) -> Arrays:
    """The inputs of an adapter, filled up with zeros to `width` ranks."""
    found = {}
    for path, (A, B) in adapter.items():
        zeros = max(0, width - A.shape[1])
        padded = np.pad(A, ((0, 0), (0, zeros))), np.pad(B, ((0, zeros), (0, 0)))
        found.update(zip(adapter_inputs(path), padded, strict=True))
    return found


def joined(weights: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Weights of shape (in, out) with those of q, k and v side by side, under the name of all three."""
    found = {name: weight for name, weight in weights.items() if not any(part in name for part in PARTS)}
    for name in weights:
        if PARTS[0] in name:
            three = [weights[name.replace(PARTS[0], part)] for part in PARTS]
            found[name.replace(PARTS[0], "self_attn.qkv_proj.")] = np.concatenate(three, axis=1)
    return found


def graph_of(file: Path) -> onnx.GraphProto:
    """The graph of a file, without its weights."""
    return onnx.load(file, load_external_data=False).graph


def operators(file: Path) -> Counter[str]:
    """Number of nodes of each type."""
    return Counter(node.op_type for node in graph_of(file).node)
