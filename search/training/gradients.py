"""Gradients of the configurations of one training step, added up over one micro-batch, in float32 or with autocast."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.training.passes import Batch, completion_logits


def accumulate_gradients(
    super_adapter: SuperAdapter,
    codes: NDArray[np.int64],
    batch: Batch,
    *,
    n_tokens: int | torch.Tensor,
    distil: bool,
    bf16: bool = False,
    backward: Callable[[torch.Tensor], object] = torch.Tensor.backward,
) -> torch.Tensor:
    """Adds the gradients of the mean loss over the configurations, each from a forward and a backward pass of its own.

    Each configuration stays active until its backward pass is over, which computes checkpointed activations again.
    Only one graph is held at a time.

    Args:
        super_adapter: Its active configuration is changed.
        codes: Shape (n, n_columns).
        batch: See `pad_batch`.
        n_tokens: Completion tokens over which the loss is averaged: those of all micro-batches of the step.
        distil: True if all configurations but the first learn from the first one's output distribution.
        bf16: True to compute in bfloat16 where autocast does; weights and loss stay in float32.
        backward: Called with the loss of each configuration.

    Returns:
        Mean loss, in nats per token; cross-entropy with the examples, or with the distribution that is learned from.
    """
    model, total = super_adapter.model, torch.zeros((), device=super_adapter.model.device)
    targets: torch.Tensor | None = None  # token ids, or distributions of shape (tokens, vocabulary)
    for row in codes:
        super_adapter.activate(row)
        with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=bf16):
            logits, labels = completion_logits(model, batch)
        loss = functional.cross_entropy(logits, labels if targets is None else targets, reduction="sum")
        if distil and targets is None:
            targets = logits.detach().softmax(dim=-1)
        loss = loss / (n_tokens * len(codes))
        backward(loss)
        total += loss.detach()
    return total
