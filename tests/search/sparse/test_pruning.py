import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from adaptare.core import InputError
from adaptare.search.super_adapter.base_model import decoder_linears
from adaptare.search.training.pruning import prune_by_magnitude, prune_by_wanda
from adaptare.search.training.token_examples import TokenExample


def without_lowest(weight: torch.Tensor, scores: torch.Tensor, sparsity: float) -> torch.Tensor:
    """Row by row, as one would by hand."""
    rows = []
    for row, score in zip(weight.numpy(), scores.numpy(), strict=True):
        removed = np.argsort(score, kind="stable")[: int(len(row) * sparsity)]
        rows.append([0.0 if column in removed else value for column, value in enumerate(row)])
    return torch.tensor(rows)


def wanda_reference(model: PreTrainedModel, examples: list[TokenExample], sparsity: float) -> dict[str, torch.Tensor]:
    """Weights after pruning: one example at a time through the whole model, again for every layer."""
    model = copy.deepcopy(model)
    linears = decoder_linears(model)
    for layer in range(model.config.num_hidden_layers):
        here = {path: linear for path, linear in linears.items() if path.startswith(f"model.layers.{layer}.")}
        squares = {path: torch.zeros(linear.in_features, dtype=torch.float64) for path, linear in here.items()}

        def add(linear: nn.Linear, inputs: tuple[torch.Tensor, ...], total: torch.Tensor) -> None:
            total += inputs[0][0].double().square().sum(dim=0)

        hooks = [linear.register_forward_pre_hook(partial(add, total=squares[path])) for path, linear in here.items()]
        for example in examples:
            model(torch.tensor([example.ids]))
        for hook in hooks:
            hook.remove()
        for path, linear in here.items():
            scores = linear.weight.abs().double() * squares[path].sqrt()
            linear.weight.data = without_lowest(linear.weight, scores, sparsity)
    return {path: linear.weight for path, linear in linears.items()}


def test_wanda_keeps_the_weights_that_a_naive_reference_keeps_and_changes_nothing_else(
    dense: PreTrainedModel, examples: list[TokenExample]
) -> None:
    expected, before = wanda_reference(dense, examples, 0.5), copy.deepcopy(dense.state_dict())
    assert prune_by_wanda(dense, examples, sparsity=0.5) == 0.5
    for name, tensor in dense.state_dict().items():
        assert torch.equal(tensor, expected.get(name.removesuffix(".weight"), before[name])), name
    assert not any(module._forward_pre_hooks for module in dense.modules())


def test_magnitude_removes_the_smallest_of_each_row(dense: PreTrainedModel) -> None:
    before = copy.deepcopy(dense.state_dict())
    share = prune_by_magnitude(dense, sparsity=0.3)
    linears = [linear.weight for linear in decoder_linears(dense).values()]
    assert share == pytest.approx(sum(int((each == 0).sum()) for each in linears) / sum(map(torch.numel, linears)))
    for name, tensor in dense.state_dict().items():
        expected = before[name]
        if name.removesuffix(".weight") in decoder_linears(dense):
            expected = without_lowest(expected, expected.abs(), 0.3)
        assert torch.equal(tensor, expected), name


def test_too_little_calibration_data_is_refused(dense: PreTrainedModel, examples: list[TokenExample]) -> None:
    before = copy.deepcopy(dense.state_dict())
    refusal = r"at least 256 tokens of calibration examples, and 2 examples have .* pass more"
    with pytest.raises(InputError, match=refusal):
        prune_by_wanda(dense, examples[:2], sparsity=0.5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in dense.state_dict().items())


@pytest.mark.parametrize("sparsity", [0.0, 1.0, float("nan")])
def test_a_sparsity_out_of_range_is_refused(
    sparsity: float, dense: PreTrainedModel, examples: list[TokenExample]
) -> None:
    with pytest.raises(InputError, match="sparsity must be above 0 and below 1"):
        prune_by_magnitude(dense, sparsity=sparsity)
    with pytest.raises(InputError, match="sparsity must be above 0 and below 1"):
        prune_by_wanda(dense, examples, sparsity=sparsity)
