"""A tiny random language model and tokenizer, made in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from adaptare.profiler import ModelShape, Space, named_space

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from adaptare.search.super_adapter.model import SuperAdapter
    from adaptare.search.training.token_examples import TokenExample

RANKS = (0, 2, 4)


def _model(layers: int = 2, hidden: int = 16) -> PreTrainedModel:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=260,
                hidden_size=hidden,
                intermediate_size=2 * hidden,
                num_hidden_layers=layers,
                num_attention_heads=2,
                num_key_value_heads=1,
                head_dim=16,
                max_position_embeddings=128,
                tie_word_embeddings=True,
                initializer_range=0.2,
            )
        )
    return model.requires_grad_(False).eval()


def _space(model: PreTrainedModel, recipe: str = "sites") -> Space:
    return named_space(recipe, ModelShape.from_config(model.config), ranks=RANKS)


def _disturb(super_adapter: SuperAdapter, seed: int = 1) -> None:
    """Random weights everywhere, as if it had been trained."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    for tensor in super_adapter.state().values():
        tensor.copy_(0.3 * torch.randn(tensor.shape, generator=generator))


def _super_adapter(model: PreTrainedModel) -> SuperAdapter:
    from adaptare.search.super_adapter.model import SuperAdapter

    return SuperAdapter(model, _space(model), seed=0)


@pytest.fixture(scope="session")
def tiny() -> SimpleNamespace:
    """Functions that make the parts: `model`, `space`, `super_adapter`, `disturb`."""
    return SimpleNamespace(model=_model, space=_space, super_adapter=_super_adapter, disturb=_disturb, ranks=RANKS)


@pytest.fixture
def super_adapter() -> SuperAdapter:
    return _super_adapter(_model())


@pytest.fixture
def trained(super_adapter: SuperAdapter) -> SuperAdapter:
    _disturb(super_adapter)
    return super_adapter


@pytest.fixture
def ids() -> torch.Tensor:
    import torch

    return torch.tensor(np.random.default_rng(3).integers(0, 260, size=(2, 9)))


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerBase:
    return _tokenizer()


def _tokenizer() -> PreTrainedTokenizerBase:
    """One token per byte, and an end of text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(alphabet)}, merges=[]))
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokens.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokens, eos_token="<end>")


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the tiny model and its tokenizer, beside which tests keep the cache of its ONNX exports."""
    folder = tmp_path_factory.mktemp("tiny") / "base"
    _model().save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def token_examples() -> Callable[[int], list[TokenExample]]:
    """Random examples that all begin with the same four tokens, as with a chat template."""
    from adaptare.search.training.token_examples import TokenExample

    def build(n: int) -> list[TokenExample]:
        rng = np.random.default_rng(7)
        examples = []
        for _ in range(n):
            asked, answered = rng.integers(2, 6), rng.integers(1, 5)
            own = rng.integers(0, 260, size=asked + answered)
            examples.append(TokenExample((5, 6, 7, 8, *map(int, own)), 4 + int(asked)))
        return examples

    return build
