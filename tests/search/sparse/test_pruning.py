import copy
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from adaptare.core import InputError
from adaptare.profiler import ModelShape
from adaptare.search.super_adapter.base_model import decoder_linears
from adaptare.search.training.pruning import prune_by_magnitude, prune_by_wanda
from adaptare.search.training.token_examples import TokenExample

Prune = Callable[[PreTrainedModel, list[TokenExample], float], float]


def by_wanda(model: PreTrainedModel, examples: list[TokenExample], sparsity: float) -> float:
    return prune_by_wanda(model, examples, sparsity=sparsity)


def by_magnitude(model: PreTrainedModel, examples: list[TokenExample], sparsity: float) -> float:
    return prune_by_magnitude(model, sparsity=sparsity)


PRUNERS = pytest.mark.parametrize("prune", [by_wanda, by_magnitude])


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


def test_wanda_keeps_the_weights_that_a_naive_reference_keeps(
    dense: PreTrainedModel, examples: list[TokenExample]
) -> None:
    expected = wanda_reference(dense, examples, 0.5)
    prune_by_wanda(dense, examples, sparsity=0.5)
    for path, linear in decoder_linears(dense).items():
        assert torch.equal(linear.weight, expected[path]), path


def test_wanda_is_not_pruning_by_magnitude(dense: PreTrainedModel, examples: list[TokenExample]) -> None:
    other = copy.deepcopy(dense)
    prune_by_wanda(dense, examples, sparsity=0.5)
    prune_by_magnitude(other, sparsity=0.5)
    ours, theirs = ([linear.weight == 0 for linear in decoder_linears(each).values()] for each in (dense, other))
    assert not all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_magnitude_removes_the_smallest_of_each_row(dense: PreTrainedModel) -> None:
    before = {path: linear.weight.clone() for path, linear in decoder_linears(dense).items()}
    prune_by_magnitude(dense, sparsity=0.3)
    for path, linear in decoder_linears(dense).items():
        assert torch.equal(linear.weight, without_lowest(before[path], before[path].abs(), 0.3)), path


@pytest.mark.parametrize(
    ("sparsity", "zeros", "share"), [(0.5, {576: 288, 1536: 768}, 0.5), (0.6, {576: 345, 1536: 921}, 0.599)]
)
@PRUNERS
def test_every_row_loses_the_same_whole_number(
    prune: Prune,
    sparsity: float,
    zeros: dict[int, int],
    share: float,
    make_model: Callable[..., PreTrainedModel],
    examples: list[TokenExample],
) -> None:
    model = make_model("llama", hidden_size=576, head_dim=64, intermediate_size=1536, num_hidden_layers=1)
    found = prune(model, examples, sparsity)
    for linear in decoder_linears(model).values():
        assert set((linear.weight == 0).sum(dim=1).tolist()) == {zeros[linear.in_features]}
    assert found == pytest.approx(share, abs=0 if share == 0.5 else 5e-4)


@PRUNERS
def test_embeddings_head_and_norms_are_untouched(
    prune: Prune, dense: PreTrainedModel, examples: list[TokenExample]
) -> None:
    before = copy.deepcopy(dense.state_dict())
    prune(dense, examples, 0.5)
    linears = {f"{site.path}.weight" for site in ModelShape.from_config(dense.config).sites}
    for name, tensor in dense.state_dict().items():
        assert torch.equal(tensor, before[name]) == (name not in linears), name


def test_pruning_leaves_no_hook_behind(dense: PreTrainedModel, examples: list[TokenExample]) -> None:
    prune_by_wanda(dense, examples, sparsity=0.5)
    assert not any(module._forward_pre_hooks for module in dense.modules())


def test_too_little_calibration_data_is_refused(dense: PreTrainedModel, examples: list[TokenExample]) -> None:
    before = copy.deepcopy(dense.state_dict())
    with pytest.raises(
        InputError, match=r"at least 256 tokens of calibration examples, and 2 examples have .* pass more"
    ):
        prune_by_wanda(dense, examples[:2], sparsity=0.5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in dense.state_dict().items())


@pytest.mark.parametrize("sparsity", [0.0, 1.0, -0.1, float("nan")])
@PRUNERS
def test_a_sparsity_out_of_range_is_refused(
    prune: Prune, sparsity: float, dense: PreTrainedModel, examples: list[TokenExample]
) -> None:
    with pytest.raises(InputError, match="sparsity must be above 0 and below 1"):
        prune(dense, examples, sparsity)


@pytest.mark.slow
@pytest.mark.demo_model
def test_wanda_hurts_a_real_model_less_than_magnitude() -> None:
    pytest.importorskip("chatterbot_corpus")
    from adaptare.profiler import named_space, open_model
    from adaptare.search import CompletionLoss, SuperAdapter, chatterbot_examples, load_base, tokenize_split

    folder = open_model("smollm2-135m").weights_folder()
    losses = {}
    for prune in (by_wanda, by_magnitude):
        model, tokenizer = load_base(folder)
        split = tokenize_split(chatterbot_examples(), tokenizer, seed=0)
        prune(model, list(split.train[:64]), 0.5)
        space = named_space("layers", ModelShape.from_config(model.config), ranks=(0, 1))
        loss = CompletionLoss(SuperAdapter(model, space, seed=0), split.validation[:48])
        losses[prune] = float(loss(space.base[None])[0])
    assert losses[by_wanda] < losses[by_magnitude]
