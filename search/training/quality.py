"""Quality of sub-adapters: loss on held-out completions."""

import copy
import inspect
from collections.abc import Sequence
from itertools import takewhile

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from transformers import DynamicCache

from adaptare.devices import InputError
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.training.token_examples import IGNORED, TokenExample, pad_batch


class CompletionLoss:
    """Loss of configurations of a super-adapter, in nats per completion token; smaller is better.

    It is the mean over all completion tokens of all examples, and with rank 0 everywhere the loss of the base
    model. Results are cached, so the weights must not change between calls.

    Two optimisations do not affect the value: the common prefix of all prompts (a chat template's system
    message) is computed once per configuration, and logits only from the first completion on.

    Args:
        super_adapter: Source of the sub-adapters; its active configuration is restored.
        examples: Held-out examples.
        batch_size: Examples per batch.
    """

    def __init__(self, super_adapter: SuperAdapter, examples: Sequence[TokenExample], *, batch_size: int = 16) -> None:
        if not examples:
            raise InputError("quality needs at least one held-out example")
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, not {batch_size}")
        self._super_adapter = super_adapter
        self._known: dict[bytes, float] = {}
        self._n_tokens = sum(example.completion_tokens for example in examples)
        self._prefix = _shared_prefix(examples)
        # transformers 5.24 renamed the argument and warns about the old name.
        arguments = inspect.signature(super_adapter.model.forward).parameters
        self._cache_name = "cache" if "cache" in arguments else "past_key_values"
        # Adjacent examples in this order have similar lengths, which saves padding.
        ordered = sorted(examples, key=lambda example: (len(example.ids), example.prompt_tokens, example.ids))
        self._batches = [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]

    @property
    def evaluations(self) -> int:
        """Number of different configurations computed so far."""
        return len(self._known)

    @property
    def name(self) -> str:
        """Name of the objective, with its unit."""
        return "loss_nats"

    def __call__(self, codes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Losses of configurations. Shape (n, n_columns) -> (n,)."""
        return np.array([self._loss(self._super_adapter.codes(row)) for row in codes], dtype=np.float64)

    def _loss(self, codes: NDArray[np.int64]) -> float:
        key = codes.tobytes()
        if key not in self._known:
            self._known[key] = self._computed(codes)
        return self._known[key]

    def _computed(self, codes: NDArray[np.int64]) -> float:
        model = self._super_adapter.model
        training = model.training
        model.eval()
        try:
            with self._super_adapter.activated(codes), torch.inference_mode():
                prefix = DynamicCache(config=model.config)
                if self._prefix:
                    ids = torch.tensor([self._prefix], device=model.device)
                    model(input_ids=ids, use_cache=True, logits_to_keep=1, **{self._cache_name: prefix})
                return sum(self._batch_loss(batch, prefix) for batch in self._batches) / self._n_tokens
        finally:
            model.train(training)

    def _batch_loss(self, examples: Sequence[TokenExample], prefix: DynamicCache) -> float:
        model, skipped = self._super_adapter.model, len(self._prefix)
        batch = {name: tensor.to(model.device) for name, tensor in pad_batch(examples).items()}
        # The token at position t is predicted at t - 1.
        first = min(example.prompt_tokens for example in examples)
        targets = batch["labels"][:, first:]
        window = torch.arange(first - 1, batch["labels"].shape[1] - 1, device=model.device) - skipped
        cache = copy.deepcopy(prefix)
        if skipped:
            cache.batch_repeat_interleave(len(examples))
        logits = model(
            input_ids=batch["input_ids"][:, skipped:],
            attention_mask=batch["attention_mask"],
            use_cache=True,
            logits_to_keep=window,
            **{self._cache_name: cache},
        ).logits
        wanted = targets != IGNORED
        return float(functional.cross_entropy(logits[wanted].float(), targets[wanted], reduction="sum"))


def _shared_prefix(examples: Sequence[TokenExample]) -> tuple[int, ...]:
    # The last token of a prompt predicts the first of its completion, so it is excluded from the prefix.
    prompts = [example.ids[: example.prompt_tokens - 1] for example in examples]
    columns = takewhile(lambda column: len(set(column)) == 1, zip(*prompts, strict=False))
    return tuple(column[0] for column in columns)
