"""Tiny random models of two families, pruned by half, and super-adapters on them as if trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from adaptare.profiler import ModelShape

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from adaptare.search.super_adapter.elastic import ElasticLinear
    from adaptare.search.super_adapter.model import SuperAdapter
    from adaptare.search.training.token_examples import TokenExample

RANKS = (2, 4, 6)
SIZES: dict[str, dict[str, Any]] = {
    # Nine heads that share three; 72 is no multiple of the blocks of 32.
    "llama": {
        "hidden_size": 72,
        "intermediate_size": 160,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "head_dim": 16,
    },
    # Normed queries and keys, whose heads are wider than the model.
    "qwen3": {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
    },
}


def _model(family: str, **sizes: int) -> PreTrainedModel:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    fixed = {"vocab_size": 260, "num_hidden_layers": 2, "max_position_embeddings": 128, "initializer_range": 0.2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = AutoConfig.for_model(family, **{**fixed, "tie_word_embeddings": True, **SIZES[family], **sizes})
        model = AutoModelForCausalLM.from_config(config)
    return model.requires_grad_(False).eval()


def _disturb(super_adapter: SuperAdapter, scale: float = 0.3) -> None:
    """Random weights everywhere, as if it had been trained."""
    import torch

    generator = torch.Generator().manual_seed(1)
    for tensor in super_adapter.state().values():
        tensor.copy_(scale * torch.randn(tensor.shape, generator=generator))


@pytest.fixture(params=["llama", "qwen3"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make_model() -> Callable[..., PreTrainedModel]:
    return _model


@pytest.fixture
def dense(family: str) -> PreTrainedModel:
    return _model(family)


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
def base(pruned: PreTrainedModel, tmp_path: Path) -> Path:
    """The sparse base in a folder."""
    pruned.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def adapted(pruned: PreTrainedModel) -> Callable[[type[ElasticLinear]], SuperAdapter]:
    """Super-adapters of the layers given, on the sparse base."""
    from adaptare.search.recipes.shears import space
    from adaptare.search.super_adapter.model import SuperAdapter

    def make(layer: type[ElasticLinear]) -> SuperAdapter:
        shape = ModelShape.from_config(pruned.config)
        super_adapter = SuperAdapter(pruned, space(shape, ranks=RANKS), seed=0, layer=layer)
        _disturb(super_adapter, scale=0.1)
        return super_adapter

    return make


@pytest.fixture
def ids() -> torch.Tensor:
    import torch

    return torch.tensor(np.random.default_rng(3).integers(0, 260, size=(2, 9)))
