from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from adaptare.core import InputError
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.training.rank_importance import gate_gradients
from adaptare.search.training.token_examples import TokenExample

COMMON = {"vocab_size": 260, "hidden_size": 36, "intermediate_size": 48, "num_hidden_layers": 2}
COMMON |= {"num_attention_heads": 9, "num_key_value_heads": 3, "max_position_embeddings": 64}
FAMILIES: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**COMMON, initializer_range=0.2)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**COMMON, initializer_range=0.2, head_dim=8)),
}
# Normalisations compute in 32 bits, whatever the model: a smaller step would drown in their rounding.
STEP = 1e-4
Examples = Callable[[int], list[TokenExample]]


@pytest.fixture(params=list(FAMILIES))
def adapted(request: pytest.FixtureRequest, tiny: SimpleNamespace) -> SuperAdapter:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = FAMILIES[request.param]().double()
    super_adapter: SuperAdapter = tiny.super_adapter(model)
    tiny.disturb(super_adapter)
    for layer in super_adapter._layers.values():
        layer.double()
    return super_adapter


def loss(super_adapter: SuperAdapter, batch: list[TokenExample]) -> float:
    """In 64 bits, example by example; transformers computes it in 32."""
    nats = []
    for example in batch:
        logits = super_adapter.model(torch.tensor([example.ids])).logits[0].log_softmax(dim=-1)
        nats += [-logits[at - 1, example.ids[at]] for at in range(example.prompt_tokens, len(example.ids))]
    return float(torch.stack(nats).mean())


def slope(super_adapter: SuperAdapter, path: str, component: int, batch: list[TokenExample]) -> float:
    """Change of the loss with a gate that is built: a factor on one column of B, a little above and below 1."""
    column, losses = super_adapter.state()[f"{path}.B"][:, component], []
    kept = column.clone()
    for gate in (1 + STEP, 1 - STEP):
        column.copy_(kept * gate)
        with torch.no_grad():
            losses.append(loss(super_adapter, batch))
    column.copy_(kept)
    return (losses[0] - losses[1]) / (2 * STEP)


def test_they_are_the_slopes_of_gates_that_are_built(adapted: SuperAdapter, token_examples: Examples) -> None:
    examples = token_examples(5)
    found = gate_gradients(adapted, examples, batch_size=2)
    batches = [examples[:2], examples[2:4], examples[4:]]
    for path in ("model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"):
        assert found[path].shape == (4,)
        for component in range(4):
            expected = np.mean([abs(slope(adapted, path, component, batch)) for batch in batches])
            assert found[path][component] == pytest.approx(expected, rel=5e-3)
    assert set(found) == {site.path for site in adapted.space.sites}


def test_nothing_of_the_super_adapter_changes(adapted: SuperAdapter, token_examples: Examples) -> None:
    adapted.activate(0 * adapted.largest)
    adapted.model.train()
    before = {name: tensor.clone() for name, tensor in adapted.state().items()}
    gate_gradients(adapted, token_examples(3))
    assert all(torch.equal(tensor, before[name]) for name, tensor in adapted.state().items())
    assert all(weight.grad is None for weight in adapted.model.parameters())
    assert not adapted.active.any()
    assert adapted.model.training


def test_a_component_that_does_nothing_has_no_importance(adapted: SuperAdapter, token_examples: Examples) -> None:
    path = "model.layers.1.self_attn.v_proj"
    adapted.state()[f"{path}.B"][:, 1] = 0
    found = gate_gradients(adapted, token_examples(4))[path]
    assert found[1] == 0
    assert np.all(np.delete(found, 1) > 0)


def test_examples_are_needed(adapted: SuperAdapter) -> None:
    with pytest.raises(InputError, match="at least one training example"):
        gate_gradients(adapted, [])
