"""Decoders loaded from a folder of safetensors, for export."""

from pathlib import Path
from typing import TYPE_CHECKING

from adaptare.core import InputError
from adaptare.core.content_hash import Json
from adaptare.profiler.models.model_cache import without_bars

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def weights_identity(folder: Path) -> Json:
    """Identity that changes with the weights in a folder; reads file metadata only."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise InputError(f"{str(folder)!r} has no *.safetensors, so there are no weights to export")
    stored: list[Json] = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    return [str(folder.resolve()), *stored]


def stored_model(folder: Path) -> "PreTrainedModel":
    """The model in a folder, in fp32 and in evaluation mode; loaded without network."""
    import torch
    from transformers import AutoModelForCausalLM

    with without_bars():
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, use_safetensors=True
        )
    return model.eval().requires_grad_(False)
