"""Small decoders of six layers, and the stock models that they must equal once layers are left out."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel, Qwen3Config

LAYERS = 6
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 260,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
}
WINDOWS = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 3}
CONFIGS = {"llama": LlamaConfig(**SIZES), "qwen3": Qwen3Config(**SIZES, **WINDOWS)}


def made(family: str) -> PreTrainedModel:
    """Random weights so large that no layer is silent, and norms of which no two are alike."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(deepcopy(CONFIGS[family])).eval().requires_grad_(False)
        for weight in model.parameters():
            moved = weight + 0.3 * torch.randn(weight.shape) if weight.dim() == 1 else 6 * weight
            weight.copy_(moved)
    return model


def deleted(model: PreTrainedModel, left_out: Sequence[int]) -> PreTrainedModel:
    """A stock model of fewer layers, with the weights of those that stay, through its state dict alone."""
    config = deepcopy(model.config)
    kept = [layer for layer in range(config.num_hidden_layers) if layer not in left_out]
    if types := getattr(config, "layer_types", None):
        config.layer_types = [types[layer] for layer in kept]
    config.num_hidden_layers = len(kept)
    renamed = {}
    for name, tensor in model.state_dict().items():
        head, found, tail = name.partition("model.layers.")
        number, _, rest = tail.partition(".")
        if not found:
            renamed[name] = tensor
        elif int(number) in kept:
            renamed[f"{head}model.layers.{kept.index(int(number))}.{rest}"] = tensor
    stock: PreTrainedModel = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    stock.load_state_dict(renamed)
    return stock
