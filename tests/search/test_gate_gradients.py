from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from adaptare.core import InputError
from adaptare.profiler import WIDTH
from adaptare.profiler.workloads import LAYER, Dimension, grouped_space
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.training import FisherChanges, Remembered
from adaptare.search.training.loss_changes import gate_gradients
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


@pytest.fixture
def narrow(tiny: SimpleNamespace) -> SuperAdapter:
    """Ranks, widths and depth, in 64 bits."""
    model = tiny.model().double()
    groups = [{"sites": "*", "ranks": [0, 4], "tie": "all"}, {"widths": [16, 32]}, {"depth": [1, 2]}]
    super_adapter = SuperAdapter(model, grouped_space("all", groups, tiny.space(model).shape), seed=0)
    tiny.disturb(super_adapter)
    for layer in super_adapter.linears.values():
        layer.double()
    return super_adapter


def loss(super_adapter: SuperAdapter, example: TokenExample) -> float:
    """Sum over the completion, in 64 bits; transformers computes it in 32."""
    logits = super_adapter.model(torch.tensor([example.ids])).logits[0].log_softmax(dim=-1)
    return -float(sum(logits[at - 1, example.ids[at]] for at in range(example.prompt_tokens, len(example.ids))))


def slopes(super_adapter: SuperAdapter, path: str, component: int, examples: list[TokenExample]) -> list[float]:
    """Changes of the losses with a gate that is built: a factor on one column of B, a little above and below 1."""
    column, losses = super_adapter.state()[f"{path}.B"][:, component], []
    kept = column.clone()
    for gate in (1 + STEP, 1 - STEP):
        column.copy_(kept * gate)
        with torch.no_grad():
            losses.append([loss(super_adapter, example) for example in examples])
    column.copy_(kept)
    return [(above - below) / (2 * STEP) for above, below in zip(*losses, strict=True)]


def at(super_adapter: SuperAdapter, path: str) -> Dimension:
    return next(each for each in super_adapter.space.dimensions if each.place == path)


def test_they_are_the_slopes_of_gates_that_are_built(adapted: SuperAdapter, token_examples: Examples) -> None:
    examples = token_examples(5)
    found = gate_gradients(adapted, adapted.largest, examples, batch_size=2)
    for path in ("model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"):
        gates = found[at(adapted, path)]
        assert gates.shape == (5, 4)
        for component in range(4):
            assert gates[:, component] == pytest.approx(slopes(adapted, path, component, examples), rel=5e-3, abs=1e-2)
    assert set(found) == set(adapted.space.dimensions)


def test_components_that_are_not_active_have_gates_too(adapted: SuperAdapter, token_examples: Examples) -> None:
    """The loss without an adapter, and with a little of one component of it."""
    examples, path = token_examples(3), "model.layers.0.self_attn.q_proj"
    nothing = 0 * adapted.largest
    gates = gate_gradients(adapted, nothing, examples)[at(adapted, path)]
    codes = nothing.copy()
    codes[adapted.space.dimensions.index(at(adapted, path))] = 4
    column, losses = adapted.state()[f"{path}.B"], []
    kept = column.clone()
    for gate in (STEP, -STEP):
        column.copy_(0 * kept)
        column[:, 2] = gate * kept[:, 2]
        with adapted.activated(codes), torch.no_grad():
            losses.append([loss(adapted, example) for example in examples])
    column.copy_(kept)
    expected = [(above - below) / (2 * STEP) for above, below in zip(*losses, strict=True)]
    assert gates[:, 2] == pytest.approx(expected, rel=5e-3, abs=1e-2)


def test_neurons_and_layers_have_gates(token_examples: Examples, narrow: SuperAdapter) -> None:
    examples = token_examples(3)
    found = gate_gradients(narrow, narrow.largest, examples, batch_size=3)
    # Everything that reads neuron 5: a column of the base, and one of A.
    linear, losses = narrow.linears["model.layers.0.mlp.down_proj"], []
    columns = [linear.base.weight.detach()[:, 5], linear.A.detach()[:, 5]]
    for factor in (1 + STEP, (1 - STEP) / (1 + STEP)):
        for column in columns:
            column *= factor
        with torch.no_grad():
            losses.append([loss(narrow, example) for example in examples])
    expected = [(above - below) / (2 * STEP) for above, below in zip(*losses, strict=True)]
    assert found[WIDTH(0)].shape == (3, narrow.shape.intermediate)
    assert found[WIDTH(0)][:, 5] == pytest.approx(expected, rel=5e-3, abs=1e-2)
    assert [found[LAYER(layer)].shape for layer in range(2)] == [(3, 1)] * 2
    assert np.all(found[LAYER(1)] != 0)
    shallow = narrow.space.at(narrow.space.highest - np.array([axis.kind == LAYER for axis in narrow.space.axes]))
    without = gate_gradients(narrow, shallow, examples)
    left_out = narrow.space.removal_order[0]
    assert not without[LAYER(left_out)].any()
    assert without[LAYER(1 - left_out)].any()


def test_nothing_of_the_super_adapter_changes(adapted: SuperAdapter, token_examples: Examples) -> None:
    adapted.activate(0 * adapted.largest)
    adapted.model.train()
    before = {name: tensor.clone() for name, tensor in adapted.state().items()}
    gate_gradients(adapted, adapted.largest, token_examples(3))
    assert all(torch.equal(tensor, before[name]) for name, tensor in adapted.state().items())
    assert all(weight.grad is None for weight in adapted.model.parameters())
    assert not adapted.active.any()
    assert adapted.model.training


def test_examples_are_needed(adapted: SuperAdapter) -> None:
    with pytest.raises(InputError, match="at least one training example"):
        gate_gradients(adapted, adapted.largest, [])


def test_gains_that_are_remembered_are_of_one_space(adapted: SuperAdapter, token_examples: Examples) -> None:
    def changes(ranks: list[int], remembered: Remembered) -> Any:
        groups = [{"sites": "*", "ranks": ranks, "tie": "all"}]
        space = grouped_space("one", groups, adapted.space.shape)
        return FisherChanges(adapted, space, token_examples(3), remembered)(np.array([1]))

    together = Remembered()
    found = [changes(ranks, together) for ranks in ([0, 1, 2], [0, 2, 4])]
    np.testing.assert_array_equal(found[1], changes([0, 2, 4], Remembered()))
    assert not np.array_equal(*found)


@pytest.mark.parametrize("present", [0, 1, 2])
def test_changes_are_of_first_and_second_order(adapted: SuperAdapter, token_examples: Examples, present: int) -> None:
    """Gradients sum to t for what a choice adds, and to -t for what it leaves out."""
    groups = [{"sites": "*", "ranks": [0, 2, 4], "tie": "all"}]
    space, examples = grouped_space("one", groups, adapted.space.shape), token_examples(3)
    point = np.array([present])
    gates = gate_gradients(adapted, space.at(point), examples)
    sums = np.array([sum(own[:, :rank].sum(axis=1) for own in gates.values()) for rank in (0, 2, 4)])
    moved = sums - sums[present]
    left_out = np.arange(3) < present
    expected = moved.sum(axis=1) + np.where(left_out, (moved**2).sum(axis=1) / 2, 0)
    np.testing.assert_allclose(FisherChanges(adapted, space, examples)(point)[0], expected)


def test_changes_of_small_updates_are_those_of_the_loss(adapted: SuperAdapter, token_examples: Examples) -> None:
    for layer in adapted.linears.values():
        layer.B.data.mul_(1e-4)
    groups = [
        {"sites": ["*.0.*"], "ranks": [0, 2, 4], "tie": "all"},
        {"sites": ["*.1.*"], "ranks": [0, 4], "tie": "all"},
    ]
    space, examples = grouped_space("two", groups, adapted.space.shape), token_examples(3)

    def total(choice: int) -> float:
        with adapted.activated(space.at(np.array([choice, 1]))), torch.no_grad():
            return sum(loss(adapted, example) for example in examples)

    true = np.array([total(choice) for choice in range(3)])
    found = FisherChanges(adapted, space, examples)(np.array([1, 1]))[0]
    assert np.abs(true - true[1]).max() > 1e-4
    np.testing.assert_allclose(found, true - true[1], rtol=0.05, atol=1e-6)
