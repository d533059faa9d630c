"""Loading of base models from a local folder."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from adaptare.core import InputError
from adaptare.profiler import ModelShape
from adaptare.search.progress_bars import without_progress_bars


def load_base(folder: str | Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Loads the model, in fp32, frozen and in evaluation mode, and the tokenizer of a folder; no network is used.

    Raises:
        InputError: The folder holds no causal language model with safetensors weights and a tokenizer, or one
            of a family whose linears are not known.
    """
    path = Path(folder)
    if not (path / "config.json").is_file():
        raise InputError(f"{str(folder)!r} is no model folder: it has no config.json")
    if not any(path.glob("*.safetensors")):
        raise InputError(f"{str(folder)!r} has no *.safetensors; save the model with transformers' save_pretrained")
    try:
        ModelShape.from_config(AutoConfig.from_pretrained(path, local_files_only=True))
        with without_progress_bars():
            model = AutoModelForCausalLM.from_pretrained(
                path, dtype=torch.float32, local_files_only=True, use_safetensors=True
            )
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    except InputError:
        raise
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise InputError(f"{str(folder)!r} cannot be loaded: {error}") from error
    return model.requires_grad_(False).eval(), tokenizer
