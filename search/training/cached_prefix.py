"""Key/value cache of a common prefix, computed once for many inputs."""

import copy
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel

from adaptare.profiler.models import cache_argument


class CachedPrefix:
    """Key/value cache of the common prefix of a batch of inputs.

    Args:
        model: Causal language model; its weights must not change while the prefix is in use.
        ids: Tokens of the prefix; there may be none.
        after: Prefix that these tokens follow, whose keys and values are reused.
    """

    def __init__(self, model: PreTrainedModel, ids: Sequence[int], *, after: "CachedPrefix | None" = None) -> None:
        self._model = model
        self._length: int = len(ids) + (after._length if after else 0)
        self._cache: DynamicCache = copy.deepcopy(after._cache) if after else DynamicCache(config=model.config)
        if ids:
            self._compute(torch.tensor([list(ids)], device=model.device), self._cache, logits_to_keep=1)

    def logits(self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Logits of inputs that begin with the prefix.

        Args:
            ids: Tokens, the prefix among them. Shape (n, longest).
            mask: 1 for tokens, 0 for padding. Shape (n, longest).
            positions: Positions after the prefix to return logits of. Shape (n_kept,).

        Returns:
            Logits of shape (n, n_kept, vocabulary).
        """
        cache = copy.deepcopy(self._cache)
        if self._length:
            cache.batch_repeat_interleave(len(ids))
        keep = positions - self._length
        return self._compute(ids[:, self._length :], cache, attention_mask=mask, logits_to_keep=keep)

    def _compute(self, ids: torch.Tensor, cache: DynamicCache, **arguments: Any) -> torch.Tensor:
        # transformers 5.24 renamed the argument of the cache and warns about the old name.
        named = {cache_argument(self._model): cache}
        logits: torch.Tensor = self._model(input_ids=ids, use_cache=True, **named, **arguments).logits
        return logits


def shared_prefix(prompts: Iterable[Sequence[int]]) -> tuple[int, ...]:
    """The tokens that all prompts begin with, without the last one of any, which predicts what follows it."""
    columns = zip(*(prompt[:-1] for prompt in prompts), strict=False)
    return tuple(column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns))
