"""Orders of MLP neurons and of layers by importance, against scores computed one example at a time."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from shallow_models import CONFIGS, LAYERS, logits, made, same
from torch.nn import functional
from transformers import PreTrainedModel

from adaptare.core import InputError
from adaptare.profiler import ModelShape
from adaptare.profiler.workloads import grouped_space
from adaptare.search.recipes import subnet
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.training.importance_orders import (
    activation_scores,
    block_influence,
    layer_order,
    magnitude_scores,
    order_neurons,
)
from adaptare.search.training.token_examples import TokenExample
from adaptare.workflows.train.adaptation import with_layer_order

Examples = Callable[[int], list[TokenExample]]
FAMILIES = ("phi3", "biased")


@pytest.fixture
def examples(token_examples: Examples) -> list[TokenExample]:
    return token_examples(60)


def halves(model: PreTrainedModel, layer: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weights and biases of gate and up."""
    mlp, size = model.model.layers[layer].mlp, model.config.intermediate_size
    if hasattr(mlp, "gate_up_proj"):
        weight = mlp.gate_up_proj.weight
        return weight[:size], weight[size:], torch.zeros(size), torch.zeros(size)
    return mlp.gate_proj.weight, mlp.up_proj.weight, mlp.gate_proj.bias, mlp.up_proj.bias


def naive_scores(model: PreTrainedModel, calibration: list[TokenExample], layer: int) -> torch.Tensor:
    """From the MLP's inputs of each example alone, with the formula written out."""
    gate, up, gate_bias, up_bias = halves(model, layer)
    seen: list[torch.Tensor] = []
    mlp = model.model.layers[layer].mlp
    hook = mlp.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0][0]))
    for example in calibration:
        logits(model, torch.tensor([example.ids]))
    hook.remove()
    x = torch.cat(seen)
    active = functional.silu(x @ gate.T + gate_bias) * (x @ up.T + up_bias)
    return active.abs().mean(dim=0) * mlp.down_proj.weight.norm(dim=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_those_of_their_formulas(family: str, examples: list[TokenExample]) -> None:
    model = made(family)
    by_activation, by_magnitude = activation_scores(model, examples), magnitude_scores(model)
    for layer in (0, 3):
        np.testing.assert_allclose(by_activation[layer], naive_scores(model, examples, layer), rtol=1e-4)
        gate, up, _, _ = halves(model, layer)
        down = model.model.layers[layer].mlp.down_proj.weight
        norms = gate.norm(dim=1) * up.norm(dim=1) * down.norm(dim=0)
        np.testing.assert_allclose(by_magnitude[layer], norms, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_order_leaves_the_whole_model_as_it_is_and_sorts_its_neurons(
    family: str, examples: list[TokenExample], ids: torch.Tensor
) -> None:
    model = made(family)
    before = model.model.layers[0].mlp.down_proj.weight.clone()
    order_neurons(model, activation_scores(model, examples))
    assert same(logits(model, ids), logits(made(family), ids))
    for scores in activation_scores(model, examples).values():
        assert (torch.as_tensor(scores).diff() <= 1e-6).all()
    assert not torch.equal(model.model.layers[0].mlp.down_proj.weight, before)


def with_quiet_neurons() -> PreTrainedModel:
    """Neurons whose contributions differ, in random order, as in trained models."""
    model, generator = made("llama"), torch.Generator().manual_seed(3)
    for layer in model.model.layers:
        layer.mlp.down_proj.weight *= torch.logspace(0, -2, 64)[torch.randperm(64, generator=generator)]
    return model


def test_cut_models_are_nearer_to_the_whole_one_sorted_than_unsorted_than_backwards(
    examples: list[TokenExample], ids: torch.Tensor
) -> None:
    whole = logits(with_quiet_neurons(), ids)
    distances = []
    for direction in (1, 0, -1):
        model = with_quiet_neurons()
        scores = activation_scores(model, examples)
        order_neurons(model, {layer: direction * score for layer, score in scores.items()})
        for layer in model.model.layers:
            layer.mlp.down_proj.weight[:, 48:] = 0
        distances.append(float((logits(model, ids) - whole).square().mean()))
    assert distances[0] < 0.5 * distances[1] < 0.5 * distances[2]


def influence_of(model: PreTrainedModel, examples: list[TokenExample]) -> list[float]:
    """Of all layers but the last, whose output transformers returns after the norm only; example by example."""
    totals = np.zeros(LAYERS - 1)
    with torch.inference_mode():
        for example in examples:
            states = model(torch.tensor([example.ids]), output_hidden_states=True).hidden_states
            for layer in range(LAYERS - 1):
                totals[layer] += functional.cosine_similarity(states[layer], states[layer + 1], dim=-1).sum()
    return (1 - totals / sum(len(example.ids) for example in examples)).tolist()


def test_the_least_influential_inner_layer_is_left_out_first_and_the_ends_last(examples: list[TokenExample]) -> None:
    """Influence is one minus the mean cosine over all tokens."""
    model = made("qwen3")
    for linear in ("self_attn.o_proj", "mlp.down_proj"):
        model.get_submodule(f"model.layers.2.{linear}").weight *= 1e-3
    expected = influence_of(model, examples)
    found = block_influence(model, examples)
    assert len(found) == LAYERS
    np.testing.assert_allclose(found[:-1], expected, atol=1e-5)
    others = sorted((1, 3, 4), key=lambda layer: expected[layer])
    assert layer_order(model, examples) == (2, *others, LAYERS - 1, 0)


@pytest.mark.parametrize("order_of", [layer_order, activation_scores])
def test_too_few_tokens_are_refused(order_of: Callable[..., object], token_examples: Examples) -> None:
    with pytest.raises(InputError, match=r"at least 256 tokens of calibration examples, and 3 examples have \d+"):
        order_of(made("llama"), token_examples(3))


def test_a_model_with_adapters_is_refused() -> None:
    model = made("llama")
    SuperAdapter(model, grouped_space("cut", [{"widths": [32, 64]}], ModelShape.from_config(model.config)), seed=0)
    with pytest.raises(InputError, match="is a ElasticLinear; neurons are ordered in plain linears; pass the model"):
        magnitude_scores(model)


def test_a_space_takes_the_order_beside_its_base(tmp_path: Path) -> None:
    space = subnet.space_with_depth(ModelShape.from_config(CONFIGS["llama"]), ranks=(4,))
    assert [each.choices for each in space.axes if each.name == "depth"] == [(4, 5, 6)]
    assert with_layer_order(space, tmp_path) is space
    (tmp_path / "layer_order.json").write_text(json.dumps({"schema": 1, "left_out_in_order": [2, 1, 4, 3, 5, 0]}))
    found = with_layer_order(space, tmp_path).removal_order
    assert found is not None
    assert sorted(found[:2]) == [1, 2]


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 4], 3])
def test_a_damaged_order_is_refused(order: object, tmp_path: Path) -> None:
    space = subnet.space_with_depth(ModelShape.from_config(CONFIGS["llama"]), ranks=(4,))
    (tmp_path / "layer_order.json").write_text(json.dumps({"schema": 1, "left_out_in_order": order}))
    with pytest.raises(InputError, match="is no order of layers; train again in another folder"):
        with_layer_order(space, tmp_path)
