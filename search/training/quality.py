"""Quality of sub-adapters: loss on held-out completions."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special
from torch.nn import functional
from transformers import PreTrainedModel

from adaptare.core import InputError
from adaptare.core.content_hash import Json
from adaptare.profiler.analysis import LEVEL, Interval
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.training.cached_prefix import CachedPrefix, shared_prefix
from adaptare.search.training.passes import completion_logits, evaluated_at, pad_batch
from adaptare.search.training.record import hash_of
from adaptare.search.training.remembered import Remembered
from adaptare.search.training.token_examples import TokenExample

# Codes of a configuration, and the numbers of the batches of which its losses are asked.
Asked: TypeAlias = tuple[NDArray[np.int64], list[int]]


class CompletionNats:
    """Negative log-likelihood of completions under configurations of a super-adapter, in nats.

    Results are cached, so the weights must not change between calls. The common prefix of all prompts (a chat
    template's system message) is computed once per configuration, that of a group once per group.

    Args:
        super_adapter: Source of the sub-adapters; its active configuration is restored.
        groups: Examples that are computed as one batch.
        remembered: Results of earlier calls for the same weights.
    """

    def __init__(
        self,
        super_adapter: SuperAdapter,
        groups: Sequence[Sequence[TokenExample]],
        *,
        remembered: Remembered | None = None,
    ) -> None:
        self._super_adapter = super_adapter
        self._groups = groups
        self._remembered = remembered or Remembered()
        self._hashes = [hash_of(group) for group in groups]
        self._prefixes = [shared_prefix(example.prompt for example in group) for group in groups]
        self._prefix = shared_prefix(example.prompt for group in groups for example in group)

    def __call__(self, codes: NDArray[np.int64], only: Sequence[int] | None = None) -> list[NDArray[np.float64]]:
        """Sum over the completion of each example of each group, for one configuration.

        Args:
            codes: Shape (n_columns,).
            only: Numbers of the groups; `None` for all.

        Raises:
            InputError: One is not finite.
        """
        codes = self._super_adapter.codes(codes)
        wanted = range(len(self._groups)) if only is None else only
        if missing := self.missing(codes, wanted):
            with evaluated_at(self._super_adapter, codes) as model:
                prefix = CachedPrefix(model, self._prefix)
                self.remember(codes, {number: self._sums(model, prefix, number) for number in missing})
        return [own for number in wanted if (own := self._remembered.find(self._key(codes, number))) is not None]

    def missing(self, codes: NDArray[np.int64], groups: Sequence[int]) -> list[int]:
        """Numbers of the groups that were not computed for a configuration."""
        return [number for number in groups if self._remembered.find(self._key(codes, number)) is None]

    def remember(self, codes: NDArray[np.int64], sums: Mapping[int, NDArray[np.float64]]) -> None:
        """Keeps results of groups, by their numbers. Raises `InputError` if one is not finite."""
        wrong = ~np.isfinite(np.concatenate(list(sums.values())))
        if wrong.any():
            raise InputError(
                f"the loss of {wrong.sum()} of {len(wrong)} completions is not finite; check the weights of the "
                "base and the adapter, or train again with a lower learning rate"
            )
        for number, own in sums.items():
            self._remembered.keep(self._key(codes, number), own)

    def _key(self, codes: NDArray[np.int64], number: int) -> Json:
        return [codes.tolist(), self._hashes[number]]

    def _sums(self, model: PreTrainedModel, prefix: CachedPrefix, number: int) -> NDArray[np.float64]:
        """Sums of one group, with a configuration active."""
        group, own = self._groups[number], self._prefixes[number]
        cached = CachedPrefix(model, own[len(self._prefix) :], after=prefix)
        logits, labels = completion_logits(model, pad_batch(group, model.device), prefix=cached)
        nats = functional.cross_entropy(logits, labels, reduction="none").cpu().double().numpy()
        ends = np.cumsum([example.completion_tokens for example in group])
        sums: NDArray[np.float64] = np.add.reduceat(nats, [0, *ends[:-1]])
        return sums


class PairedLosses(ABC):
    """Losses of several configurations on the same examples."""

    @abstractmethod
    def sums(self, codes: NDArray[np.int64], examples: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """Loss of one configuration summed over each example.

        Args:
            codes: Shape (n_columns,).
            examples: Numbers of the examples; `None` for all.

        Returns:
            Shape (n_examples,).
        """

    def each(
        self,
        codes: NDArray[np.int64],
        examples: NDArray[np.int64] | None = None,
        *,
        done: Callable[[float], None] = lambda share: None,
    ) -> NDArray[np.float64]:
        """`sums` of several configurations.

        Args:
            codes: Shape (n, n_columns).
            examples: As of `sums`.
            done: Called after each configuration, with the share that is done.

        Returns:
            Shape (n, n_examples).
        """
        sums = []
        for number, row in enumerate(codes, start=1):
            sums.append(self.sums(row, examples))
            done(number / len(codes))
        return np.array(sums)


class CompletionLoss(PairedLosses):
    """Loss of configurations of a super-adapter, in nats per completion token; smaller is better.

    It is the mean over all completion tokens of all examples, and with rank 0 everywhere the loss of the base
    model. See `CompletionNats`.

    Args:
        super_adapter: Source of the sub-adapters; its active configuration is restored.
        examples: Held-out examples.
        batch_size: Examples per batch.
        remembered: Losses of earlier calls for the same weights.
        elsewhere: Computes `nats` of several configurations in other processes.
    """

    # Of the objective, with its unit.
    name: Final = "loss_nats"

    def __init__(
        self,
        super_adapter: SuperAdapter,
        examples: Sequence[TokenExample],
        *,
        batch_size: int = 16,
        remembered: Remembered | None = None,
        elsewhere: Callable[[Sequence[Asked]], Sequence[Sequence[NDArray[np.float64]]]] | None = None,
    ) -> None:
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
        self._nats = CompletionNats(super_adapter, groups, remembered=remembered)
        self._elsewhere = elsewhere
        self._batches = np.arange(len(examples)) // batch_size  # of each example, in that order

    @property
    def tokens(self) -> NDArray[np.int64]:
        """Number of completion tokens of each example. Shape (n_examples,)."""
        return self._tokens.copy()

    def __call__(self, codes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Losses of configurations. Shape (n, n_columns) -> (n,)."""
        losses: NDArray[np.float64] = self.each(codes).sum(axis=1) / self._tokens.sum()
        return losses

    def nats(self, codes: NDArray[np.int64], batches: Sequence[int]) -> list[NDArray[np.float64]]:
        """Loss of one configuration summed over the completion of each example of some batches."""
        return self._nats(codes, batches)

    def each(
        self,
        codes: NDArray[np.int64],
        examples: NDArray[np.int64] | None = None,
        *,
        done: Callable[[float], None] = lambda share: None,
    ) -> NDArray[np.float64]:
        """`sums` of several configurations, computed elsewhere if that is possible; see `PairedLosses.each`."""
        if self._elsewhere:
            batches = self._batches_of(examples)[1].tolist()
            asked = [(row, missing) for row in codes if (missing := self._nats.missing(row, batches))]
            for (row, missing), found in zip(asked, self._elsewhere(asked) if asked else (), strict=True):
                self._nats.remember(row, dict(zip(missing, found, strict=True)))
        n_examples = len(self._tokens) if examples is None else len(examples)
        return super().each(codes, examples, done=done).reshape(len(codes), n_examples)

    def sums(self, codes: NDArray[np.int64], examples: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """Loss of one configuration summed over the completion of each example, nats.

        Args:
            codes: Shape (n_columns,).
            examples: Numbers of the examples, best those of `samples`, as whole batches are computed; `None` for all.

        Returns:
            Shape (n_examples,).
        """
        places, batches = self._batches_of(examples)
        sums = np.full(len(self._tokens), np.nan)
        sums[np.isin(self._batches, batches)] = np.concatenate(self._nats(codes, batches.tolist()))
        found: NDArray[np.float64] = sums[places]
        return found

    def _batches_of(self, examples: NDArray[np.int64] | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Places of examples in the order of the batches, and the numbers of their batches."""
        places = np.argsort(self._order)[slice(None) if examples is None else examples]
        return places, np.unique(self._batches[places])

    def samples(self) -> list[NDArray[np.int64]]:
        """Growing samples of the examples, each within the next: about an eighth, a quarter and a half, and all.

        Each is of whole batches, spread over the lengths of the examples. There are fewer samples of few batches.
        """
        n_batches = int(self._batches[-1]) + 1
        strides = [stride for stride in (8, 4, 2, 1) if stride <= n_batches]
        return [np.sort(np.array(self._order)[self._batches % stride == 0]) for stride in strides]

    def difference(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> Interval:
        """Loss of one configuration minus that of another; see `paired_difference`. Shapes (n_columns,)."""
        return paired_difference(self.sums(first), self.sums(second), self._tokens)


def paired_difference(
    first: NDArray[np.float64], second: NDArray[np.float64], tokens: NDArray[np.int64], *, level: float = LEVEL
) -> Interval:
    """Loss of the first minus that of the second, with an interval over the examples.

    Examples vary much more than the difference does on one example, so the interval is that of the differences. Losses
    are sums over tokens divided by their number, hence a ratio: its standard error is that of the residuals.

    Args:
        first: Loss summed over the completion of each example, nats. Shape (n_examples,).
        second: The same of the other.
        tokens: Number of completion tokens. Shape (n_examples,).
        level: Coverage probability of the interval.

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
    n, middle = len(tokens), float((first - second).sum() / tokens.sum())
    if n < 2:
        return Interval(-np.inf, middle, np.inf)
    half = float(special.stdtrit(n - 1, (1 + level) / 2)) * paired_error(first, second, tokens)
    return Interval(middle - half, middle, middle + half)


def paired_error(first: NDArray[np.float64], second: NDArray[np.float64], tokens: NDArray[np.int64]) -> float:
    """Standard error of the difference of two losses; arguments as of `paired_difference`, infinite for one example."""
    n, differences = len(tokens), first - second
    if n < 2:
        return np.inf
    residuals = differences - differences.sum() / tokens.sum() * tokens
    return float(np.sqrt(n / (n - 1) * (residuals @ residuals))) / float(tokens.sum())
