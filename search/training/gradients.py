"""Gradients of the configurations of one training step, added up over one micro-batch, in float32 or with autocast."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.training.passes import Batch, completion_logits
from adaptare.search.training.step import Distillation


def accumulate_gradients(
    super_adapter: SuperAdapter,
    codes: NDArray[np.int64],
    batch: Batch,
    *,
    n_tokens: int | torch.Tensor,
    distil: Distillation | None,
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
        distil: Loss of all configurations but the first, which learn from the first one's outputs; `None` for the loss
            of the first.
        bf16: True to compute in bfloat16 where autocast does; weights and loss stay in float32.
        backward: Called with the loss of each configuration.

    Returns:
        Mean loss, in nats per token; cross-entropy with the examples, or what distillation makes of it.
    """
    model, total = super_adapter.model, torch.zeros((), device=super_adapter.model.device)
    teacher: torch.Tensor | None = None  # log-probabilities, shape (tokens, vocabulary)
    for row in codes:
        super_adapter.activate(row)
        with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=bf16):
            logits, labels = completion_logits(model, batch)
        if distil and teacher is not None:
            loss = _distilled(logits, labels, teacher, distil)
        else:
            loss = functional.cross_entropy(logits, labels, reduction="sum")
            teacher = (logits.detach() / distil.temperature).log_softmax(dim=-1) if distil else None
        loss = loss / (n_tokens * len(codes))
        backward(loss)
        total += loss.detach()
    return total


def _distilled(logits: torch.Tensor, labels: torch.Tensor, teacher: torch.Tensor, by: Distillation) -> torch.Tensor:
    """Sum over the tokens. Shapes (tokens, vocabulary), (tokens,) and (tokens, vocabulary)."""
    own = (logits / by.temperature).log_softmax(dim=-1)
    loss = by.outputs * by.temperature**2 * functional.kl_div(own, teacher, reduction="sum", log_target=True)
    return loss + by.labels * functional.cross_entropy(logits, labels, reduction="sum") if by.labels else loss
