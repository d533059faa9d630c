"""Pruning of a linear to an exact number of zeros per output row, and pruning by magnitude."""

import torch
from torch import nn
from transformers import PreTrainedModel

from adaptare.core import InputError
from adaptare.profiler import ModelShape
from adaptare.search.super_adapter.zeros import share_of_zeros


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


def decoder_linears(model: PreTrainedModel) -> dict[str, nn.Linear]:
    """Module path -> linear, for all linears of the decoder layers."""
    return {site.path: model.get_submodule(site.path) for site in ModelShape.from_config(model.config).sites}
