"""Importance orders of MLP neurons, against scores computed one token at a time."""

import numpy as np
import pytest
import torch
from narrow_models import FAMILIES, logits, made, same
from torch.nn import functional
from transformers import PreTrainedModel

from adaptare.core import InputError
from adaptare.profiler import ModelShape
from adaptare.profiler.workloads.space_file import grouped_space
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.training.importance_orders import activation_scores, magnitude_scores, order_neurons
from adaptare.search.training.quality import CompletionLoss
from adaptare.search.training.token_examples import TokenExample


def examples(n: int, *, seed: int = 0) -> list[TokenExample]:
    rng = np.random.default_rng(seed)
    return [TokenExample(tuple(map(int, rng.integers(0, 260, size=rng.integers(8, 20)))), 3) for _ in range(n)]


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
def test_activation_scores_are_those_of_the_formula(family: str) -> None:
    model, calibration = made(family), examples(30)
    scores = activation_scores(model, calibration)
    for layer in range(3):
        np.testing.assert_allclose(scores[layer], naive_scores(model, calibration, layer), rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_magnitude_scores_are_products_of_norms(family: str) -> None:
    model = made(family)
    scores = magnitude_scores(model)
    for layer in range(3):
        gate, up, _, _ = halves(model, layer)
        down = model.model.layers[layer].mlp.down_proj.weight
        expected = [float(gate[n].norm() * up[n].norm() * down[:, n].norm()) for n in range(64)]
        np.testing.assert_allclose(scores[layer], expected, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_order_leaves_the_whole_model_as_it_is_and_sorts_its_neurons(family: str, ids: torch.Tensor) -> None:
    model, calibration = made(family), examples(30)
    order_neurons(model, activation_scores(model, calibration))
    assert same(logits(model, ids), logits(made(family), ids))
    for layer, scores in activation_scores(model, calibration).items():
        assert (scores.diff() <= 1e-9).all(), layer
    assert not torch.equal(
        model.model.layers[0].mlp.down_proj.weight, made(family).model.layers[0].mlp.down_proj.weight
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_cut_models_are_better_sorted_than_unsorted_and_than_sorted_backwards(family: str) -> None:
    """Held-out text is drawn from the whole model, so that it has the lowest loss."""

    def with_quiet_neurons() -> PreTrainedModel:
        """Neurons whose contributions differ, in random order, as in trained models."""
        model = made(family)
        generator = torch.Generator().manual_seed(3)
        for layer in range(3):
            scale = torch.logspace(0, -2, 64)[torch.randperm(64, generator=generator)]
            model.model.layers[layer].mlp.down_proj.weight *= scale
        return model

    def sampled() -> list[TokenExample]:
        model = with_quiet_neurons()
        ids = torch.tensor([example.ids[:8] for example in examples(40, seed=9)])
        with torch.random.fork_rng():
            torch.manual_seed(4)
            grown = model.generate(ids, do_sample=True, max_new_tokens=8, pad_token_id=0)
        return [TokenExample(tuple(row), 8) for row in grown.tolist()]

    held_out = sampled()
    shape = ModelShape.from_config(made(family).config)
    space = grouped_space("cut", [{"widths": list(range(48, 65, 4))}], shape)
    rng = np.random.default_rng(6)
    codes = space.at(space.sample(6, rng))
    losses = {}
    for name, direction in (("sorted", 1), ("unsorted", 0), ("backwards", -1)):
        model = with_quiet_neurons()
        scores = activation_scores(model, examples(30))
        order_neurons(model, {layer: direction * score for layer, score in scores.items()})
        losses[name] = CompletionLoss(SuperAdapter(model, space, seed=0), held_out)(codes).mean()
    assert losses["sorted"] < losses["unsorted"] < losses["backwards"]
    assert (codes < 64).any(axis=1).all()  # every one of them is cut


def test_too_little_calibration_data_is_refused() -> None:
    few = examples(3)
    tokens = sum(len(example.ids) for example in few)
    with pytest.raises(InputError, match=f"256 tokens of calibration examples, and 3 examples have {tokens}; pass"):
        activation_scores(made("llama"), few)


def test_a_model_with_adapters_is_refused() -> None:
    model = made("llama")
    SuperAdapter(model, grouped_space("cut", [{"widths": [32, 64]}], ModelShape.from_config(model.config)), seed=0)
    with pytest.raises(InputError, match="is a ElasticLinear; neurons are ordered in plain linears; pass the model"):
        magnitude_scores(model)
