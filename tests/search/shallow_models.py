"""Small decoders of six layers, and the stock models that they must equal once neurons and layers are left out."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, Phi3Config, PreTrainedModel, Qwen3Config

from adaptare.profiler import Configuration, ModelShape, Space
from adaptare.profiler.workloads import grouped_space
from adaptare.search.super_adapter.model import SuperAdapter

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
# Fused gates and biases matter to narrower layers only.
NARROWED = {"phi3": Phi3Config(**SIZES), "biased": LlamaConfig(**SIZES, mlp_bias=True)}
FAMILIES = ("qwen3", *NARROWED)
ORDER = (3, 0, 4, 1, 5, 2)


def made(family: str) -> PreTrainedModel:
    """Random weights so large that no layer is silent, and norms of which no two are alike."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = deepcopy({**CONFIGS, **NARROWED}[family])
        model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
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


def cut_space(model: PreTrainedModel, depths: tuple[int, ...] = (3, 4, LAYERS)) -> Space:
    """A rank for every site, a width for each layer, and a depth."""
    groups = [{"sites": "*", "ranks": [0, 2, 4], "tie": "none"}, {"widths": [32, 48, 64]}, {"depth": list(depths)}]
    return grouped_space("cut", groups, ModelShape.from_config(model.config)).leaving_out(ORDER)


def disturbed(family: str, depths: tuple[int, ...] = (3, 4, LAYERS)) -> SuperAdapter:
    """A super-adapter with random weights everywhere, as if it had been trained."""
    model = made(family)
    super_adapter = SuperAdapter(model, cut_space(model, depths), seed=0)
    generator = torch.Generator().manual_seed(1)
    for tensor in super_adapter.state().values():
        tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator))
    return super_adapter


def configured(
    super_adapter: SuperAdapter, depth: int = LAYERS, widths: Mapping[int, int] | None = None
) -> Configuration:
    """Ranks 0, 2 and 4 by turns, in a model of this depth and these widths."""
    ranks = {site.path: 2 * (number % 3) for number, site in enumerate(super_adapter.space.sites)}
    return Configuration.of(ranks, widths=widths or {}, left_out=ORDER[: LAYERS - depth])


def stock(family: str, super_adapter: SuperAdapter, config: Configuration) -> PreTrainedModel:
    """The model that a configuration stands for: merged by hand, neurons without a way out, layers deleted."""
    model, state = made(family), super_adapter.state()
    for path, rank in config.by_path.items():
        A, B = state[f"{path}.A"], state[f"{path}.B"]
        model.get_submodule(path).weight += 32.0 / A.shape[0] * B[:, :rank] @ A[:rank]
    for layer, width in config.by_layer.items():
        model.model.layers[layer].mlp.down_proj.weight[:, width:] = 0
    return deleted(model, config.left_out)


def logits(model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    """Shape (batch, tokens, vocabulary)."""
    with torch.no_grad():
        found: torch.Tensor = model(ids).logits
    return found


def same(found: torch.Tensor, expected: torch.Tensor, within: float = 1e-4) -> bool:
    """True if all differences are small beside the largest value, or beside 1."""
    return bool((found - expected).abs().max() <= within * max(1.0, float(expected.abs().max())))
