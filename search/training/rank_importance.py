"""Importance of the ranks of an adapter on examples: its inputs, and gradients of the loss."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from adaptare.core import InputError
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.training.passes import batches, completion_logits, evaluated_at, watch
from adaptare.search.training.token_examples import TokenExample

Gates = dict[str, NDArray[np.float64]]


def gate_gradients(super_adapter: SuperAdapter, examples: Sequence[TokenExample], *, batch_size: int = 4) -> Gates:
    """Mean absolute gradient of the loss with respect to a gate on each component of every site, at the largest ranks.

    A gate is a factor g = 1 on one rank's product: y = W x + scale * sum over k of g[k] B[:, k] (A[k] x). To first
    order its gradient is the change of the loss without the component.

    Args:
        super_adapter: Trained super-adapter; weights and active configuration are unchanged.
        examples: Training examples, not those that judge the result.
        batch_size: Examples per gradient; the mean is over batches.

    Returns:
        Module path -> shape (largest rank,), nats per completion token.

    Raises:
        InputError: There is no example.

    References:
        Michel et al. 2019, "Are sixteen heads really better than one?", section 4.1.
    """
    if not examples:
        raise InputError("gradients of gates need at least one training example; pass some")
    means = [
        {path: np.abs(gradient) / n_tokens for path, gradient in gates.items()}
        for n_tokens, gates in _gates(super_adapter, examples, batch_size)
    ]
    return {path: np.mean([gates[path] for gates in means], axis=0) for path in means[0]}


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
    columns = {site.path: column for column, site in enumerate(space.sites)}
    grown = np.zeros((len(largest), int(largest.max()) + 1))
    for _, gates in _gates(super_adapter, examples, 1):
        for path, gradient in gates.items():
            rest = np.cumsum(gradient[::-1])[::-1]
            grown[columns[path], : len(rest)] += rest**2 / 2 - rest
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


def _gates(super_adapter: SuperAdapter, examples: Sequence[TokenExample], size: int) -> Iterator[tuple[int, Gates]]:
    """Completion tokens of each batch, and the gradient of the sum of their losses at the gates of every site.

    It is B[:, k] . dL/dB[:, k], so no gates are built.
    """
    linears = {path: linear for path, linear in super_adapter.linears.items() if linear.largest}
    weights = [linear.B for linear in linears.values()]
    with evaluated_at(super_adapter, super_adapter.largest, gradients=True) as model:
        for batch in batches(examples, model.device, size=size):
            logits, labels = completion_logits(model, batch)
            slopes = torch.autograd.grad(functional.cross_entropy(logits, labels, reduction="sum"), weights)
            gates = [(B.detach() * slope).sum(dim=0) for B, slope in zip(weights, slopes, strict=True)]
            yield len(labels), dict(zip(linears, (gate.double().cpu().numpy() for gate in gates), strict=True))
