"""Quality of sub-adapters: loss on held-out completions."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from adaptare.core import InputError
from adaptare.profiler.analysis.intervals import Interval
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.training.cached_prefix import CachedPrefix, evaluated, shared_prefix
from adaptare.search.training.paired import paired_difference
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
            raise InputError("a loss needs at least one held-out example; pass some")
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, not {batch_size}")
        self._super_adapter = super_adapter
        self._known: dict[bytes, NDArray[np.float64]] = {}
        self._examples = tuple(examples)
        self._tokens = np.array([example.completion_tokens for example in examples])
        self._prefix = shared_prefix(example.ids[: example.prompt_tokens] for example in examples)
        # Adjacent examples in this order have similar lengths, which saves padding.
        ordered = sorted(range(len(examples)), key=lambda index: _lengths(examples[index]))
        self._batches = [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]

    @property
    def evaluations(self) -> int:
        """Number of different configurations computed so far."""
        return len(self._known)

    @property
    def name(self) -> str:
        """Name of the objective, with its unit."""
        return "loss_nats"

    @property
    def tokens(self) -> NDArray[np.int64]:
        """Number of completion tokens of each example. Shape (n_examples,)."""
        return self._tokens.copy()

    def __call__(self, codes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Losses of configurations. Shape (n, n_columns) -> (n,)."""
        return np.array([self.sums(row).sum() / self._tokens.sum() for row in codes], dtype=np.float64)

    def sums(self, codes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Loss of one configuration summed over the completion of each example, nats.

        Shape (n_columns,) -> (n_examples,).

        Raises:
            InputError: One is not finite.
        """
        codes = self._super_adapter.codes(codes)
        key = codes.tobytes()
        if key not in self._known:
            self._known[key] = self._computed(codes)
        return self._known[key].copy()

    def difference(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> Interval:
        """Loss of one configuration minus that of another; see `paired_difference`. Shapes (n_columns,)."""
        return paired_difference(self.sums(first), self.sums(second), self._tokens)

    def _computed(self, codes: NDArray[np.int64]) -> NDArray[np.float64]:
        sums = np.empty(len(self._examples))
        with evaluated(self._super_adapter, codes) as model:
            prefix = CachedPrefix(model, self._prefix)
            for batch in self._batches:
                sums[batch] = self._batch_sums([self._examples[index] for index in batch], prefix)
        if not np.isfinite(sums).all():
            raise InputError(
                f"the loss of {int((~np.isfinite(sums)).sum())} of {len(sums)} held-out examples is not finite; check "
                "the weights of the base and the adapter, or train again with a lower learning rate"
            )
        return sums

    def _batch_sums(self, examples: Sequence[TokenExample], prefix: CachedPrefix) -> NDArray[np.float64]:
        skipped, device = len(self._prefix), self._super_adapter.model.device
        batch = pad_batch(examples, device)
        # The token at position t is predicted at t - 1.
        first = min(example.prompt_tokens for example in examples)
        targets = batch["labels"][:, first:]
        window = torch.arange(first - 1, batch["labels"].shape[1] - 1, device=device) - skipped
        logits = prefix.logits(batch["input_ids"][:, skipped:], batch["attention_mask"][:, skipped:], window)
        wanted = targets != IGNORED
        losses = functional.cross_entropy(logits[wanted].float(), targets[wanted], reduction="none")
        rows = wanted.nonzero()[:, 0].cpu().numpy()
        sums = np.bincount(rows, weights=losses.cpu().double().numpy(), minlength=len(examples))
        return sums.astype(np.float64)


def _lengths(example: TokenExample) -> tuple[int, int, tuple[int, ...]]:
    return len(example.ids), example.prompt_tokens, example.ids
