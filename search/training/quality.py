"""Quality of sub-adapters: loss on held-out completions."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special
from torch.nn import functional

from adaptare.core import InputError
from adaptare.profiler.analysis import LEVEL, Interval
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.training.cached_prefix import CachedPrefix, shared_prefix
from adaptare.search.training.passes import completion_logits, evaluated_at, pad_batch
from adaptare.search.training.token_examples import TokenExample


class CompletionNats:
    """Negative log-likelihood of completions under configurations of a super-adapter, in nats.

    Results are cached, so the weights must not change between calls. The common prefix of all prompts (a chat
    template's system message) is computed once per configuration, that of a group once per group.

    Args:
        super_adapter: Source of the sub-adapters; its active configuration is restored.
        groups: Examples that are computed as one batch.
    """

    def __init__(self, super_adapter: SuperAdapter, groups: Sequence[Sequence[TokenExample]]) -> None:
        self._super_adapter = super_adapter
        self._groups = groups
        self._prefixes = [shared_prefix(example.prompt for example in group) for group in groups]
        self._prefix = shared_prefix(example.prompt for group in groups for example in group)
        self._known: dict[bytes, list[NDArray[np.float64]]] = {}

    def __call__(self, codes: NDArray[np.int64]) -> list[NDArray[np.float64]]:
        """Sum over the completion of each example of each group, for one configuration, shape (n_columns,).

        Raises:
            InputError: One is not finite.
        """
        codes = self._super_adapter.codes(codes)
        key = codes.tobytes()
        if key not in self._known:
            with evaluated_at(self._super_adapter, codes) as model:
                prefix = CachedPrefix(model, self._prefix)
                found: list[NDArray[np.float64]] = []
                for group, own in zip(self._groups, self._prefixes, strict=True):
                    cached = CachedPrefix(model, own[len(self._prefix) :], after=prefix)
                    logits, labels = completion_logits(model, pad_batch(group, model.device), prefix=cached)
                    nats = functional.cross_entropy(logits, labels, reduction="none").cpu().double().numpy()
                    ends = np.cumsum([example.completion_tokens for example in group])
                    found.append(np.add.reduceat(nats, [0, *ends[:-1]]))
            wrong = ~np.isfinite(np.concatenate(found))
            if wrong.any():
                raise InputError(
                    f"the loss of {wrong.sum()} of {len(wrong)} completions is not finite; check the weights of the "
                    "base and the adapter, or train again with a lower learning rate"
                )
            self._known[key] = found
        return self._known[key]


class CompletionLoss:
    """Loss of configurations of a super-adapter, in nats per completion token; smaller is better.

    It is the mean over all completion tokens of all examples, and with rank 0 everywhere the loss of the base
    model. See `CompletionNats`.

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
        self._tokens = np.array([example.completion_tokens for example in examples])
        # Adjacent examples in this order have similar lengths, which saves padding.
        lengths = [(len(example.ids), example.prompt_tokens, example.ids) for example in examples]
        self._order = sorted(range(len(examples)), key=lengths.__getitem__)
        ordered = [examples[index] for index in self._order]
        groups = [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]
        self._nats = CompletionNats(super_adapter, groups)

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
        """
        sums = np.empty(len(self._tokens))
        sums[self._order] = np.concatenate(self._nats(codes))
        return sums

    def difference(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> Interval:
        """Loss of one configuration minus that of another; see `paired_difference`. Shapes (n_columns,)."""
        return paired_difference(self.sums(first), self.sums(second), self._tokens)


def paired_difference(first: NDArray[np.float64], second: NDArray[np.float64], tokens: NDArray[np.int64]) -> Interval:
    """Loss of the first minus that of the second, with a 95 % interval over the examples.

    Examples vary much more than the difference does on one example, so the interval is that of the differences. Losses
    are sums over tokens divided by their number, hence a ratio: its standard error is that of the residuals.

    Args:
        first: Loss summed over the completion of each example, nats. Shape (n_examples,).
        second: The same of the other.
        tokens: Number of completion tokens. Shape (n_examples,).

    Returns:
        Difference in nats per completion token; of a single example with an infinite interval.

    Raises:
        InputError: The shapes differ.

    References:
        Cochran 1977, "Sampling techniques", section 6.4 (variance of a ratio).
    """
    if not len(first) == len(second) == len(tokens):
        raise InputError(
            f"losses of {len(first)} and {len(second)} examples, with {len(tokens)} lengths, do not pair; use the same "
            "examples"
        )
    n, differences = len(tokens), first - second
    middle = float(differences.sum() / tokens.sum())
    if n < 2:
        return Interval(-np.inf, middle, np.inf)
    residuals = differences - middle * tokens
    error = float(np.sqrt(n / (n - 1) * (residuals @ residuals))) / float(tokens.sum())
    half = float(special.stdtrit(n - 1, (1 + LEVEL) / 2)) * error
    return Interval(middle - half, middle, middle + half)
