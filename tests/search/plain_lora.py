"""Independent reference of nested adapters: plain LoRA as forward hooks on an unmodified model, in textbook form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    Tensors = Mapping[str, tuple[torch.Tensor, torch.Tensor]]

ALPHA = 32.0  # the documented default


def families() -> dict[str, PreTrainedModel]:
    """Tiny random models: Llama-like with 9 heads and 3 groups, and Qwen3-like with norms of queries and keys."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

    usual: dict[str, Any] = {
        "vocab_size": 260,
        "num_hidden_layers": 2,
        "max_position_embeddings": 128,
        "initializer_range": 0.2,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        llama = LlamaForCausalLM(
            LlamaConfig(
                hidden_size=36,
                intermediate_size=40,
                num_attention_heads=9,
                num_key_value_heads=3,
                tie_word_embeddings=True,
                **usual,
            )
        )
        qwen3 = Qwen3ForCausalLM(
            Qwen3Config(
                hidden_size=24,
                intermediate_size=40,
                num_attention_heads=4,
                num_key_value_heads=2,
                head_dim=8,
                tie_word_embeddings=False,
                **usual,
            )
        )
    return {"llama-9-3": llama.requires_grad_(False).eval(), "qwen3": qwen3.requires_grad_(False).eval()}


@contextmanager
def plain_lora(model: PreTrainedModel, tensors: Tensors, ranks: Mapping[str, int]) -> Iterator[None]:
    """Adds alpha / r_max * x A[:r]' B[:, :r]' to the output of each linear with a rank above 0."""

    def add(A: torch.Tensor, B: torch.Tensor, rank: int) -> Any:
        def hook(module: object, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
            return output + ALPHA / A.shape[0] * (inputs[0] @ A[:rank].T @ B[:, :rank].T)

        return hook

    handles = [
        model.get_submodule(path).register_forward_hook(add(*tensors[path], rank))
        for path, rank in ranks.items()
        if rank
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
