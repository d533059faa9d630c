"""Files of a PEFT folder: weights and settings of a LoRA."""

import json
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch

from adaptare.core import InputError
from adaptare.devices.program import Json

Halves = Mapping[str, tuple[torch.Tensor, torch.Tensor]]
# Options that are not written have PEFT's defaults, so that every version of PEFT reads the file.
_FIXED: Mapping[str, Json] = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "inference_mode": True,
    "bias": "none",
    "fan_in_fan_out": False,
    "lora_dropout": 0.0,
    "modules_to_save": None,
    "use_rslora": False,
}


def write_peft(folder: Path, halves: Halves, arguments: Mapping[str, Json], *, base_name: str | None) -> None:
    """Writes `adapter_model.safetensors` and `adapter_config.json`.

    Args:
        folder: An existing folder.
        halves: Module path -> A, shape (rank, in), and B, shape (out, rank).
        arguments: Ranks, alphas and target modules, as in a `peft.LoraConfig`.
        base_name: Hub id or folder of the base model; `None` if it has no name that is valid on another machine.

    Raises:
        InputError: A weight is NaN or infinite.
    """
    if wrong := [path for path, pair in halves.items() if not all(torch.isfinite(half).all() for half in pair)]:
        raise InputError(f"the adapter of {wrong[0]!r} has NaN or infinite values; train it again, or choose another")
    tensors = {
        f"base_model.model.{path}.lora_{half}.weight": tensor.cpu().contiguous()
        for path, pair in halves.items()
        for half, tensor in zip("AB", pair, strict=True)
    }
    settings = {**_FIXED, "base_model_name_or_path": base_name, **arguments}
    (folder / "adapter_model.safetensors").write_bytes(safetensors.torch.save(tensors, metadata={"format": "pt"}))
    (folder / "adapter_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
