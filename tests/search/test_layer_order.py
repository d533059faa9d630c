"""Orders in which layers are left out, against hidden states as transformers returns them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from shallow_models import CONFIGS, LAYERS, made
from torch.nn import functional
from transformers import PreTrainedModel

from adaptare.core import InputError
from adaptare.profiler import ModelShape
from adaptare.profiler.workloads.space_file import grouped_space
from adaptare.search.recipes import subnet
from adaptare.search.training.importance_orders import block_influence, layer_order
from adaptare.search.training.token_examples import TokenExample
from adaptare.workflows.train.adaptation import with_layer_order

Examples = Callable[[int], list[TokenExample]]


def influence_of(model: PreTrainedModel, examples: list[TokenExample]) -> list[float]:
    """Of all layers but the last, whose output transformers returns after the norm only; example by example."""
    totals = np.zeros(LAYERS - 1)
    with torch.inference_mode():
        for example in examples:
            states = model(torch.tensor([example.ids]), output_hidden_states=True).hidden_states
            for layer in range(LAYERS - 1):
                totals[layer] += functional.cosine_similarity(states[layer], states[layer + 1], dim=-1).sum()
    return (1 - totals / sum(len(example.ids) for example in examples)).tolist()


@pytest.mark.parametrize("family", CONFIGS)
def test_influence_is_one_minus_the_mean_cosine_over_all_tokens(family: str, token_examples: Examples) -> None:
    examples = token_examples(60)
    found = block_influence(made(family), examples)
    np.testing.assert_allclose(found[:-1], influence_of(made(family), examples), atol=1e-5)
    assert len(found) == LAYERS


def test_the_least_influential_inner_layer_is_left_out_first_and_the_ends_last(token_examples: Examples) -> None:
    model, examples = made("llama"), token_examples(60)
    for linear in ("self_attn.o_proj", "mlp.down_proj"):
        model.get_submodule(f"model.layers.2.{linear}").weight *= 1e-3
    order = layer_order(model, examples)
    others = sorted((1, 3, 4), key=lambda layer: influence_of(model, examples)[layer])
    assert order == (2, *others, LAYERS - 1, 0)


def test_too_few_tokens_are_refused(token_examples: Examples) -> None:
    with pytest.raises(InputError, match=r"at least 256 tokens of calibration examples, and 3 examples have \d+"):
        layer_order(made("llama"), token_examples(3))


def test_a_space_takes_the_order_beside_its_base(tmp_path: Path) -> None:
    shape = ModelShape.from_config(CONFIGS["llama"])
    space = subnet.space_with_depth(shape, ranks=(4,))
    assert [each.choices for each in space.axes if each.name == "depth"] == [(4, 5, 6)]
    assert with_layer_order(space, tmp_path) is space
    (tmp_path / "layer_order.json").write_text(json.dumps({"schema": 1, "left_out_in_order": [2, 1, 4, 3, 5, 0]}))
    found = with_layer_order(space, tmp_path).removal_order
    assert found is not None
    assert sorted(found[:2]) == [1, 2]
    ranks = grouped_space("ranks", [{"sites": "*", "ranks": [4]}], shape)
    assert with_layer_order(ranks, tmp_path) is ranks


@pytest.mark.parametrize("order", [[0, 1], [0, 1, 2, 3, 4, 4], ["a"], 3])
def test_a_damaged_order_is_refused(order: object, tmp_path: Path) -> None:
    space = subnet.space_with_depth(ModelShape.from_config(CONFIGS["llama"]), ranks=(4,))
    (tmp_path / "layer_order.json").write_text(json.dumps({"schema": 1, "left_out_in_order": order}))
    with pytest.raises(InputError, match="is no order of layers; train again in another folder"):
        with_layer_order(space, tmp_path)
