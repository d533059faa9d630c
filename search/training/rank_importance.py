"""Importance of the ranks of an adapter on examples: its inputs, and gradients of the loss."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.training.gates import gate_gradients
from adaptare.search.training.passes import evaluated_at, watch
from adaptare.search.training.token_examples import TokenExample


def loss_lost(super_adapter: SuperAdapter, examples: Sequence[TokenExample]) -> NDArray[np.float64]:
    """Estimated increase of the loss at each rank of each site alone, in nats per completion token.

    A gate on every component has a gradient for each example. Without the components from some rank on, whose gradients
    sum to t, the loss of the examples grows by sum(-t + t^2 / 2): its Taylor series, with the Fisher matrix in place of
    the Hessian.

    Args:
        super_adapter: Its active configuration is restored.
        examples: Calibration examples, one forward and backward pass each.

    Returns:
        Shape (n_columns, largest rank + 1); 0 from a site's own largest rank on, and never larger at a larger rank.

    References:
        Molchanov et al. 2019, "Importance estimation for neural network pruning", equation 8.
    """
    space, largest = super_adapter.space, super_adapter.largest
    grown = np.zeros((len(largest), int(largest.max()) + 1))
    gates = gate_gradients(super_adapter, largest, examples)
    for column, dimension in enumerate(space.dimensions):
        rest = np.cumsum(gates[dimension][:, ::-1], axis=1)[:, ::-1]
        grown[column, : rest.shape[1]] = (rest**2 / 2 - rest).sum(axis=0)
    grown /= sum(example.completion_tokens for example in examples)
    falling: NDArray[np.float64] = np.maximum.accumulate(np.maximum(grown, 0.0)[:, ::-1], axis=1)[:, ::-1]
    return falling


def activation_grams(super_adapter: SuperAdapter, examples: Sequence[TokenExample]) -> dict[str, torch.Tensor]:
    """Second moments E[(A x) (A x)^T] over the inputs x of every site, with the whole adapter active.

    Args:
        super_adapter: Its active configuration is restored.
        examples: Calibration examples; prompts count as completions do.

    Returns:
        Module path -> shape (rank, rank), 64 bits.
    """
    weights = {path: linear.A.detach() for path, linear in super_adapter.linears.items() if linear.largest}
    grams = {path: torch.zeros(len(A), len(A), dtype=torch.float64, device=A.device) for path, A in weights.items()}

    def add(path: str, x: torch.Tensor, _: torch.Tensor) -> None:
        inside = (x.to(weights[path].dtype) @ weights[path].T).double()
        grams[path] += inside.T @ inside

    with evaluated_at(super_adapter, super_adapter.largest) as model:
        n_tokens = watch(model, {path: super_adapter.linears[path] for path in weights}, examples, add)
    return {path: gram / n_tokens for path, gram in grams.items()}
