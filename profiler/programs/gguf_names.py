"""Names and row orders that llama.cpp gives to the tensors of a model."""

import re
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.profiler.workloads.shape import ModelShape
from adaptare.profiler.workloads.sub_adapter import Halves

# Model family -> architecture of its GGUF files.
ARCHITECTURES: Final = {
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3_text": "gemma3",
    "llama": "llama",
    "mistral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
}
LINEARS: Final = {
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "o_proj": "attn_output",
    "gate_proj": "ffn_gate",
    "up_proj": "ffn_up",
    "down_proj": "ffn_down",
}
SITE: Final = re.compile(r"model\.layers\.(\d+)\.(?:self_attn|mlp)\.(\w+)")


def architecture_of(shape: ModelShape) -> str:
    """`general.architecture` of a model. Raises `InputError` for families whose adapters are not written as GGUF."""
    if shape.family not in ARCHITECTURES:
        raise InputError(
            f"adapters of the family {shape.family} are not written as GGUF, only those of "
            f"{', '.join(sorted(ARCHITECTURES))}; use an ort device, or export the merged model"
        )
    return ARCHITECTURES[shape.family]


def tensor_name(path: str) -> str:
    """Name of the weights of a linear, such as `blk.0.attn_q.weight`."""
    found = SITE.fullmatch(path)
    if not found or found[2] not in LINEARS:
        raise InputError(f"llama.cpp has no name for the linear {path}; leave it out")
    return f"blk.{found[1]}.{LINEARS[found[2]]}.weight"


def gguf_site(name: str) -> str:
    """Inverse of `tensor_name`, also for the names of an adapter's halves; empty for other tensors."""
    found = re.match(r"blk\.(\d+)\.(\w+)\.weight", name)
    kinds = {renamed: kind for kind, renamed in LINEARS.items()}
    if not found or found[2] not in kinds:
        return ""
    kind = kinds[found[2]]
    return f"model.layers.{found[1]}.{'self_attn' if found[2].startswith('attn') else 'mlp'}.{kind}"


def adapter_names(path: str) -> tuple[str, str]:
    """Names of A, shape (rank, in), and B, shape (out, rank)."""
    return f"{tensor_name(path)}.lora_a", f"{tensor_name(path)}.lora_b"


def as_rotated(path: str, rows: NDArray[Any], shape: ModelShape) -> NDArray[Any]:
    """Rows of a linear in the order of GGUF: in the architecture `llama`, halves of rotary heads are interleaved.

    Args:
        path: Module path, also of a bias.
        rows: Shape (out, ...).
        shape: The model.
    """
    heads = {"q_proj": shape.heads, "k_proj": shape.kv_heads}.get(path.split(".")[-1], 0)
    if not heads or architecture_of(shape) != "llama":
        return rows
    halves = rows.reshape(heads, 2, len(rows) // heads // 2, *rows.shape[1:])
    return halves.swapaxes(1, 2).reshape(rows.shape)


def adapter_tensors(halves: Mapping[str, Halves], shape: ModelShape) -> dict[str, NDArray[np.float32]]:
    """Tensors of an adapter by their names, with the scale of each site in its B."""
    made: dict[str, NDArray[np.float32]] = {}
    for path, own in halves.items():
        A, B = (half.T for half in own.of_rows)
        made |= dict(zip(adapter_names(path), (A, as_rotated(path, B, shape)), strict=True))
    return made
