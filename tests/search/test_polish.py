from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from adaptare.core import InputError
from adaptare.core.progress import Feedback
from adaptare.profiler import Configuration
from adaptare.search import CompletionLoss
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.training.polish import polished
from adaptare.search.training.token_examples import TokenExample

CONFIG = Configuration.of({"model.layers.0.self_attn.q_proj": 2, "model.layers.1.mlp.down_proj": 4})
Examples = Callable[[int], list[TokenExample]]


@pytest.fixture
def adapted(tiny: SimpleNamespace) -> SuperAdapter:
    model = tiny.model()
    super_adapter = SuperAdapter(model, tiny.space(model), alpha=2.0, seed=0)
    tiny.disturb(super_adapter)
    return super_adapter


def logits(super_adapter: SuperAdapter, config: Configuration, ids: torch.Tensor) -> torch.Tensor:
    with super_adapter.activated(config), torch.no_grad():
        found: torch.Tensor = super_adapter.model(ids).logits
    return found


def test_it_begins_where_the_configuration_is_and_learns(
    adapted: SuperAdapter, token_examples: Examples, ids: torch.Tensor
) -> None:
    examples, expected = token_examples(16), logits(adapted, CONFIG, ids)
    before = float(CompletionLoss(adapted, examples)(adapted.codes(CONFIG)[None])[0])
    with polished(adapted, CONFIG, examples, steps=1, learning_rate=1e-12, seed=0) as only:
        assert (logits(only, CONFIG, ids) - expected).abs().max() < 1e-4
    shares: list[float] = []

    @contextmanager
    def progress(title: str) -> Iterator[Callable[[float, str], None]]:
        yield lambda share, text: shares.append(share)

    feedback = Feedback(progress=progress)
    with polished(adapted, CONFIG, examples, steps=6, learning_rate=2e-2, seed=0, feedback=feedback) as only:
        assert float(CompletionLoss(only, examples)(only.largest[None])[0]) < before - 0.05
        assert only.space.decode(only.largest) == CONFIG
    assert shares == [step / 6 for step in range(1, 7)]


def test_the_super_adapter_is_as_it_was(adapted: SuperAdapter, token_examples: Examples, ids: torch.Tensor) -> None:
    full = adapted.space.decode(adapted.largest)
    before = logits(adapted, full, ids)
    weights = {name: tensor.clone() for name, tensor in adapted.state().items()}
    with polished(adapted, CONFIG, token_examples(8), steps=2, learning_rate=1e-2, seed=0):
        pass
    assert torch.equal(logits(adapted, full, ids), before)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in adapted.state().items())
    trainable = {name for name, weight in adapted.model.named_parameters() if weight.requires_grad}
    assert len(trainable) == len(weights)


def test_an_error_within_restores_the_super_adapter_too(
    adapted: SuperAdapter, token_examples: Examples, ids: torch.Tensor
) -> None:
    before = logits(adapted, CONFIG, ids)
    with pytest.raises(InputError, match="steps"), polished(adapted, CONFIG, token_examples(8), steps=0, seed=0):
        pass
    assert torch.equal(logits(adapted, CONFIG, ids), before)


def test_an_empty_configuration_is_refused(adapted: SuperAdapter, token_examples: Examples) -> None:
    with (
        pytest.raises(InputError, match="has nothing to train"),
        polished(adapted, Configuration(), token_examples(4), steps=1, seed=0),
    ):
        pass
