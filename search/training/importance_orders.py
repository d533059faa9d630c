"""Orders in which a base model is cut: neurons of an MLP and decoder layers, by importance on calibration examples."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

from adaptare.core import InputError
from adaptare.search.super_adapter.base_model import decoder_linears
from adaptare.search.training.passes import check_calibration, watch
from adaptare.search.training.token_examples import TokenExample

Scores = Mapping[int, torch.Tensor]


def activation_scores(model: PreTrainedModel, calibration: Sequence[TokenExample]) -> Scores:
    """Mean absolute contribution of each neuron on calibration tokens: layer -> scores, shape (intermediate,).

    The contribution to the residual stream is |act(gate) * up|, averaged over all tokens, times the norm of the
    neuron's column in the down projection.

    Args:
        model: A causal language model without adapters.
        calibration: Examples, of which prompt and completion count.

    Raises:
        InputError: The examples have too few tokens.

    References:
        Muralidharan et al. 2024, "Compact language models via pruning and knowledge distillation", section 2.2
        (neurons by activations); Sun et al. 2023, "Wanda", equation 1 (times the norm of the weights).
    """
    check_calibration(calibration, "an importance order")
    down = {layer: linears[-1] for layer, linears in _mlps(model).items()}
    totals = {layer: torch.zeros(linear.in_features, dtype=torch.float64) for layer, linear in down.items()}

    def add(layer: int, inputs: torch.Tensor, _: torch.Tensor) -> None:
        totals[layer] += inputs.abs().double().sum(dim=0).cpu()

    tokens = watch(model, down, calibration, add)
    norms = {layer: linear.weight.detach().double().norm(dim=0).cpu() for layer, linear in down.items()}
    return {layer: total / tokens * norms[layer] for layer, total in totals.items()}


def magnitude_scores(model: PreTrainedModel) -> Scores:
    """Product of the norms of a neuron's weights, without any data: layer -> scores, shape (intermediate,)."""
    size = int(model.config.intermediate_size)
    scores = {}
    for layer, (*before, down) in _mlps(model).items():
        score = down.weight.detach().double().norm(dim=0)
        for into in before:
            # Gate and up, in one linear or two.
            halves = into.weight.detach().double().reshape(-1, size, into.in_features)
            score = score * halves.norm(dim=2).prod(dim=0)
        scores[layer] = score.cpu()
    return scores


def order_neurons(model: PreTrainedModel, scores: Scores) -> None:
    """Permutes the neurons of each MLP, in place, to descending scores; the model's function does not change.

    Args:
        model: A causal language model without adapters.
        scores: Layer -> scores, shape (intermediate,), equal ones in their present order.
    """
    size = int(model.config.intermediate_size)
    for layer, (*before, down) in _mlps(model).items():
        order = torch.argsort(scores[layer], descending=True, stable=True).to(down.weight.device)
        down.weight.data = down.weight.data[:, order].contiguous()
        for into in before:
            rows = torch.cat([half * size + order for half in range(into.out_features // size)])
            into.weight.data = into.weight.data[rows].contiguous()
            if into.bias is not None:
                into.bias.data = into.bias.data[rows]


def layer_order(model: PreTrainedModel, calibration: Sequence[TokenExample]) -> tuple[int, ...]:
    """Order to leave layers out: by ascending block influence, then the last layer, then the first, which always stays.

    Raises:
        InputError: The examples have too few tokens.
    """
    influence = block_influence(model, calibration)
    inner = sorted(range(1, len(influence) - 1), key=lambda layer: float(influence[layer]))
    return (*inner, *dict.fromkeys((len(influence) - 1, 0)))


def block_influence(model: PreTrainedModel, calibration: Sequence[TokenExample]) -> NDArray[np.float64]:
    """One minus the mean cosine of the hidden states before and after each layer. Shape (layers,).

    Args:
        model: A causal language model without adapters.
        calibration: Examples, of which prompt and completion count.

    Raises:
        InputError: The examples have too few tokens.

    References:
        Men et al. 2024, "ShortGPT", equation 1.
    """
    check_calibration(calibration, "an importance order")
    layers = dict(enumerate(model.get_submodule("model.layers").children()))
    cosines = np.zeros(len(layers))

    def add(layer: int, before: torch.Tensor, after: torch.Tensor) -> None:
        cosines[layer] += float(functional.cosine_similarity(before.double(), after.double()).sum())

    return 1 - cosines / watch(model, layers, calibration, add)


def _mlps(model: PreTrainedModel) -> dict[int, list[nn.Linear]]:
    """Layer -> gate and up, or both as one, and then down."""
    mlps: dict[int, list[nn.Linear]] = {}
    for path, module in decoder_linears(model).items():
        if ".mlp." not in path:
            continue
        if not isinstance(module, nn.Linear):
            raise InputError(
                f"{path} is a {type(module).__name__}; neurons are ordered in plain linears; pass the model without "
                "adapters"
            )
        mlps.setdefault(int(path.split(".")[2]), []).append(module)
    return mlps
