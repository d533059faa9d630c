"""Weights of q, k and v as the graphs without adapters have them."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

PARTS = [f"self_attn.{half}_proj." for half in "qkv"]


def joined(weights: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Weights of shape (in, out) with those of q, k and v side by side, under the name of all three."""
    found = {name: weight for name, weight in weights.items() if not any(part in name for part in PARTS)}
    for name in weights:
        if PARTS[0] in name:
            three = [weights[name.replace(PARTS[0], part)] for part in PARTS]
            found[name.replace(PARTS[0], "self_attn.qkv_proj.")] = np.concatenate(three, axis=1)
    return found


def operators(file: Path) -> Counter[str]:
    """Number of nodes of each type."""
    return Counter(node.op_type for node in onnx.load(file, load_external_data=False).graph.node)


def products(file: Path) -> list[str]:
    """Names of the nodes that multiply by weights of layers, without the ends that quantising gives them."""
    nodes = onnx.load(file, load_external_data=False).graph.node
    every = [
        node.name for node in nodes if node.op_type in ("MatMul", "MatMulNBits") and node.name.endswith(("proj", "_Q4"))
    ]
    return [name.removesuffix("_Q4") for name in every if name.startswith("model.layers")]
