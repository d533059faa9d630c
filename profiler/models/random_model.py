"""Decoders of transformers, with stored weights or with random ones: latency does not depend on the values."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from adaptare.core import InputError
from adaptare.profiler.models.model_cache import without_bars


def random_model(config: Mapping[str, Any], *, dtype: str = "float32") -> PreTrainedModel:
    """The model of a transformers config, in evaluation mode; the config determines the weights."""
    fields = {name: value for name, value in config.items() if name != "model_type"}
    settings = AutoConfig.for_model(config["model_type"], **fields)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(settings, dtype=getattr(torch, dtype))
    for name, weight in model.named_parameters():
        if name.endswith(".bias"):  # zero at first, and then graphs would have no nodes that add them
            nn.init.constant_(weight, 0.01)
    return model.eval().requires_grad_(False)


def base_model(config: Mapping[str, Any], folder: Path | None, *, dtype: str = "float32") -> PreTrainedModel:
    """The model in a folder, or that of a config with random weights, in evaluation mode; loaded without network.

    Raises `InputError` if the folder has files that cannot be loaded.
    """
    if folder is None:
        return random_model(config, dtype=dtype)
    try:
        with without_bars():
            model = AutoModelForCausalLM.from_pretrained(
                folder, dtype=getattr(torch, dtype), local_files_only=True, use_safetensors=True
            )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise InputError(f"{str(folder)!r} cannot be loaded: {error}; fetch or save it again") from error
    return model.eval().requires_grad_(False)


def head_width(config: Any) -> int:
    """Width of an attention head of a transformers config."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def cache_argument(model: nn.Module) -> str:
    """Name of the key/value cache argument in the installed version of transformers."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"
