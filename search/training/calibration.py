"""Calibration of the importance of ranks on examples: inputs of the adapters, and gradients of the loss."""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.training.token_examples import TokenExample, pad_batch

BATCH = 16


def activation_grams(super_adapter: SuperAdapter, examples: Sequence[TokenExample]) -> dict[str, torch.Tensor]:
    """Second moments E[(A x) (A x)^T] over the inputs x of every site, with the whole adapter active.

    Args:
        super_adapter: Its active configuration is restored.
        examples: Calibration examples; prompts count as completions do.

    Returns:
        Module path -> shape (rank, rank), 64 bits.
    """
    model, n_tokens = super_adapter.model, sum(len(example.ids) for example in examples)
    weights = {name.removesuffix(".A"): half for name, half in super_adapter.state().items() if name.endswith(".A")}
    grams = {path: torch.zeros(len(A), len(A), dtype=torch.float64, device=A.device) for path, A in weights.items()}
    seen: dict[str, torch.Tensor] = {}

    def add(path: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        inside = inputs[0][seen["mask"]].to(weights[path].dtype) @ weights[path].T
        grams[path] += inside.double().T @ inside.double() / n_tokens

    with ExitStack() as hooks, super_adapter.activated(super_adapter.largest), torch.inference_mode():
        for path in weights:
            hooks.enter_context(super_adapter.linears[path].register_forward_pre_hook(partial(add, path)))
        for start in range(0, len(examples), BATCH):
            batch = pad_batch(examples[start:][:BATCH], model.device)
            seen["mask"] = batch["attention_mask"].bool()
            model(batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False, logits_to_keep=1)
    return grams


def loss_lost(super_adapter: SuperAdapter, examples: Sequence[TokenExample]) -> NDArray[np.float64]:
    """Estimated increase of the loss at each rank of each site alone, in nats per completion token.

    A factor on every row of A has a gradient for each example. Without the rows from some rank on, whose gradients sum
    to t, the loss of the examples grows by sum(-t + t^2 / 2): its Taylor series, with the Fisher matrix in place of the
    Hessian.

    Args:
        super_adapter: Its active configuration is restored.
        examples: Calibration examples, one forward and backward pass each.

    Returns:
        Shape (n_columns, largest rank + 1); 0 from a site's own largest rank on, and never larger at a larger rank.

    References:
        Molchanov et al. 2019, "Importance estimation for neural network pruning", equation 8.
    """
    model, space, largest = super_adapter.model, super_adapter.space, super_adapter.largest
    adapted = [column for column, site in enumerate(space.sites) if largest[column] > 0]
    halves = [super_adapter.linears[space.sites[column].path].A for column in adapted]
    grown = np.zeros((space.n_columns, int(largest.max()) + 1))
    with super_adapter.activated(largest), torch.enable_grad():
        for example in examples:
            batch = pad_batch([example], model.device)
            loss = model(**batch, use_cache=False).loss * example.completion_tokens
            for column, A, gradient in zip(adapted, halves, torch.autograd.grad(loss, halves), strict=True):
                rows = (A.detach() * gradient).sum(dim=1).double().cpu().numpy()
                rest = np.cumsum(rows[::-1])[::-1]
                grown[column, : len(rest)] += rest**2 / 2 - rest
    grown /= sum(example.completion_tokens for example in examples)
    falling: NDArray[np.float64] = np.maximum.accumulate(np.maximum(grown, 0.0)[:, ::-1], axis=1)[:, ::-1]
    return falling
