"""Small decoders with separate and with fused MLPs, and the dense models that their sub-networks must equal."""

from collections.abc import Mapping

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, Phi3Config, Phi3ForCausalLM, PreTrainedModel

from adaptare.profiler import ModelShape, Space
from adaptare.profiler.workloads.space_file import grouped_space
from adaptare.search.super_adapter.model import SuperAdapter

SIZES = {
    "vocab_size": 260,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "head_dim": 16,
    "num_key_value_heads": 1,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
    "pad_token_id": 0,
}
FAMILIES = ("llama", "phi3")
RANKS, WIDTHS = [0, 2, 4], [32, 48, 64]
Updates = Mapping[str, torch.Tensor]


def made(family: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A random model; that of llama has biases in its MLPs."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if family == "phi3":
            model: PreTrainedModel = Phi3ForCausalLM(Phi3Config(**SIZES))
        else:
            model = LlamaForCausalLM(LlamaConfig(**SIZES, mlp_bias=True))
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                nn.init.normal_(weight, std=0.2)
    return model.requires_grad_(False).eval().to(dtype)


def wide_space(model: PreTrainedModel, widths: list[int] | None = None) -> Space:
    """A rank for every site, and a width for every layer."""
    groups = [{"sites": "*", "ranks": RANKS, "tie": "none"}, {"widths": widths or WIDTHS}]
    return grouped_space("wide", groups, ModelShape.from_config(model.config))


def disturbed(family: str, dtype: torch.dtype = torch.float32) -> SuperAdapter:
    """A super-adapter with random weights everywhere, as if it had been trained."""
    model = made(family)
    super_adapter = SuperAdapter(model, wide_space(model), seed=0)
    generator = torch.Generator().manual_seed(1)
    for tensor in super_adapter.state().values():
        tensor.copy_(0.3 * torch.randn(tensor.shape, generator=generator))
    model.to(dtype)
    return super_adapter


def dense(model: PreTrainedModel, widths: Mapping[int, int], updates: Updates) -> PreTrainedModel:
    """The model with complete updates added to its weights, and then the first neurons of its MLPs, by hand."""
    for path, update in updates.items():
        model.get_submodule(path).weight += update
    for layer, width in widths.items():
        mlp, size = model.model.layers[layer].mlp, model.config.intermediate_size
        kept = torch.arange(width)
        fused = hasattr(mlp, "gate_up_proj")
        rows = torch.cat([kept, size + kept]) if fused else kept
        for linear in [mlp.gate_up_proj] if fused else [mlp.gate_proj, mlp.up_proj]:
            linear.weight = nn.Parameter(linear.weight[rows], requires_grad=False)
            if linear.bias is not None:
                linear.bias = nn.Parameter(linear.bias[rows], requires_grad=False)
        mlp.down_proj.weight = nn.Parameter(mlp.down_proj.weight[:, :width].clone(), requires_grad=False)
    return model


def complete_updates(super_adapter: SuperAdapter, ranks: Mapping[str, int], *, alpha: float = 32.0) -> Updates:
    """alpha / largest rank times B A of the first ranks, from the tensors as they are stored."""
    state = super_adapter.state()
    return {
        path: alpha / state[f"{path}.A"].shape[0] * state[f"{path}.B"][:, :rank] @ state[f"{path}.A"][:rank]
        for path, rank in ranks.items()
    }


def logits(model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    """Shape (batch, tokens, vocabulary)."""
    with torch.no_grad():
        found: torch.Tensor = model(ids).logits
    return found


def same(found: torch.Tensor, expected: torch.Tensor, within: float = 1e-4) -> bool:
    """True if all differences are small beside the largest value, or beside 1."""
    return bool((found - expected).abs().max() <= within * max(1.0, float(expected.abs().max())))
