"""Pruning to an exact number of zeros per output row: Wanda (weight times activation), and magnitude."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from adaptare.core import InputError
from adaptare.search.super_adapter.base_model import decoder_linears
from adaptare.search.super_adapter.merging import share_of_zeros
from adaptare.search.training.passes import check_calibration, pad_batch, seen
from adaptare.search.training.token_examples import TokenExample


def prune_rows(linear: nn.Linear, scores: torch.Tensor, *, sparsity: float) -> None:
    """Sets the `int(columns * sparsity)` weights of lowest score in every output row to zero, in place.

    Args:
        linear: Linear to prune; its bias is unchanged.
        scores: Importance of each weight, shape (out, in). Of equal scores the first ones are removed.
        sparsity: Share of each row to remove, between 0 and 1.

    Raises:
        InputError: The sparsity is out of range.
    """
    if not 0 < sparsity < 1:
        raise InputError(f"sparsity must be above 0 and below 1, not {sparsity}")
    removed = torch.sort(scores, dim=1, stable=True).indices[:, : int(linear.in_features * sparsity)]
    linear.weight.detach().scatter_(1, removed, 0.0)


def prune_by_magnitude(model: PreTrainedModel, *, sparsity: float) -> float:
    """Removes the smallest weights of every row of the decoder's linears; embeddings, head and norms are untouched.

    Args:
        model: Changed in place.
        sparsity: Share of each row to remove; rounded down to whole weights.

    Returns:
        Share of zeros in the decoder's linears.

    Raises:
        InputError: The sparsity is out of range, or the model family is not supported.
    """
    linears = decoder_linears(model)
    for linear in linears.values():
        prune_rows(linear, linear.weight.detach().abs(), sparsity=sparsity)
    return share_of_zeros([linear.weight for linear in linears.values()])


def prune_by_wanda(model: PreTrainedModel, calibration: Sequence[TokenExample], *, sparsity: float) -> float:
    """Removes the weights of lowest |W| * norm of their input channel, in every row of the decoder's linears.

    Norms are taken over all calibration tokens, layer by layer: the inputs of a layer come from the layers before it
    as they are after pruning. Embeddings, head and norms are untouched. All calibration tokens are computed as one
    batch.

    Args:
        model: Changed in place.
        calibration: Examples with at least `FEWEST_TOKENS` tokens in all.
        sparsity: Share of each row to remove; rounded down to whole weights.

    Returns:
        Share of zeros in the decoder's linears.

    Raises:
        InputError: Too few calibration tokens, or the sparsity is out of range.

    References:
        Sun et al. 2024, "A simple and effective pruning approach for large language models", equation 1, algorithm 1.
    """
    check_calibration(calibration, "Wanda")
    linears = decoder_linears(model)
    batch = pad_batch(calibration, model.device)
    real, pruned = batch["attention_mask"].bool(), set(linears.values())

    def prune(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        own, norms = {linear: linear for linear in layer.modules() if linear in pruned}, {}
        with seen(own, lambda linear, x, _: norms.update({linear: x[real].float().norm(dim=0)})):
            layer.forward(*args, **kwargs)  # not a call, which would run the hook that calls this
        for linear, lengths in norms.items():
            prune_rows(linear, linear.weight.detach().abs() * lengths, sparsity=sparsity)

    layers = {path.split(".self_attn.")[0] for path in linears if ".self_attn." in path}
    with ExitStack() as hooks, torch.no_grad():
        for path in layers:
            hooks.enter_context(model.get_submodule(path).register_forward_pre_hook(prune, with_kwargs=True))
        model.base_model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False)
    return share_of_zeros([linear.weight for linear in linears.values()])
