"""Importance of the components of an adapter: gradients of gates on them."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.training.token_examples import TokenExample, pad_batch


def gate_gradients(
    super_adapter: SuperAdapter, examples: Sequence[TokenExample], *, batch_size: int = 4
) -> dict[str, NDArray[np.float64]]:
    """Mean absolute gradient of the loss with respect to a gate on each component of every site, at the largest ranks.

    A gate is a factor g = 1 on one rank's product: y = W x + scale * sum over k of g[k] B[:, k] (A[k] x). Its gradient
    is B[:, k] . dL/dB[:, k], so no gates are built. To first order it is the change of the loss without the component.

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
    model = super_adapter.model
    paths = [name.removesuffix(".B") for name in super_adapter.state() if name.endswith(".B")]
    weights = [super_adapter.linears[path].B for path in paths]
    sums = [torch.zeros(weight.shape[1], dtype=torch.float64) for weight in weights]
    batches = [examples[start : start + batch_size] for start in range(0, len(examples), batch_size)]
    training = model.training
    model.eval()
    try:
        with super_adapter.activated(super_adapter.largest):
            for batch in batches:
                loss = model(**pad_batch(batch, model.device), use_cache=False).loss
                for total, weight, slope in zip(sums, weights, torch.autograd.grad(loss, weights), strict=True):
                    total += (weight.detach() * slope).sum(dim=0).abs().double().cpu()
    finally:
        model.train(training)
    return {path: (total / len(batches)).numpy() for path, total in zip(paths, sums, strict=True)}
