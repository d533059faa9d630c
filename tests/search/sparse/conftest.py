"""A tiny random model, pruned by half, and super-adapters on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from adaptare.profiler import ModelShape

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from adaptare.search.super_adapter.elastic import ElasticLinear
    from adaptare.search.super_adapter.model import SuperAdapter
    from adaptare.search.training.token_examples import TokenExample

RANKS = (2, 4, 6)
# Normed queries and keys, whose heads are wider than the model; 80 is no multiple of the blocks of 32.
SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 80,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 260,
    "num_hidden_layers": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
    "tie_word_embeddings": True,
}


@pytest.fixture
def dense(request: pytest.FixtureRequest) -> PreTrainedModel:
    """Tests may set other sizes as its parameter."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Qwen3ForCausalLM(Qwen3Config(**{**SIZES, **getattr(request, "param", {})}))
    return model.requires_grad_(False).eval()


@pytest.fixture
def examples() -> list[TokenExample]:
    """Random examples of different lengths, enough for calibration."""
    from adaptare.search.training.token_examples import TokenExample

    rng = np.random.default_rng(7)
    return [TokenExample(tuple(map(int, rng.integers(0, 260, size=rng.integers(8, 30)))), 4) for _ in range(24)]


@pytest.fixture
def pruned(dense: PreTrainedModel, examples: list[TokenExample]) -> PreTrainedModel:
    from adaptare.search.training.pruning import prune_by_wanda

    prune_by_wanda(dense, examples, sparsity=0.5)
    return dense


@pytest.fixture
def base(pruned: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> Path:
    """The sparse base in a folder."""
    pruned.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def adapted(pruned: PreTrainedModel) -> Callable[[type[ElasticLinear]], SuperAdapter]:
    """Super-adapters of the layers given, on the sparse base, as if they had been trained."""
    import torch

    from adaptare.search.recipes.shears import space
    from adaptare.search.super_adapter.model import SuperAdapter

    def make(layer: type[ElasticLinear]) -> SuperAdapter:
        shape = ModelShape.from_config(pruned.config)
        super_adapter = SuperAdapter(pruned, space(shape, ranks=RANKS), seed=0, layer=layer)
        generator = torch.Generator().manual_seed(1)
        for tensor in super_adapter.state().values():
            tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator))
        return super_adapter

    return make
