"""Keys and values of tokens that many inputs begin with, computed once."""

import copy
from collections.abc import Iterable, Sequence
from itertools import takewhile

import torch
from transformers import DynamicCache, PreTrainedModel

from adaptare.profiler.models.random_model import cache_argument


class CachedPrefix:
    """Keys and values of the tokens that a batch of inputs begins with.

    Args:
        model: Causal language model; its weights must not change while the prefix is in use.
        ids: Tokens of the prefix; there may be none.
    """

    def __init__(self, model: PreTrainedModel, ids: Sequence[int]) -> None:
        self._model = model
        self._ids = tuple(ids)
        # transformers 5.24 renamed the argument and warns about the old name.
        self._cache_name = cache_argument(model)
        self._cache = DynamicCache(config=model.config)
        self._compute(self._cache, ids)

    def extended(self, ids: Sequence[int]) -> "CachedPrefix":
        """Prefix extended by these tokens; the keys and values of this one are reused."""
        longer = copy.copy(self)
        longer._ids = (*self._ids, *ids)
        longer._cache = copy.deepcopy(self._cache)
        longer._compute(longer._cache, ids)
        return longer

    def logits(self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Logits of inputs that begin with the prefix.

        Args:
            ids: Tokens, the prefix among them. Shape (n, longest).
            mask: 1 for tokens, 0 for padding. Shape (n, longest).
            positions: Positions after the prefix to return logits of. Shape (n_kept,).

        Returns:
            Logits of shape (n, n_kept, vocabulary).
        """
        cache, skipped = copy.deepcopy(self._cache), len(self._ids)
        if skipped:
            cache.batch_repeat_interleave(len(ids))
        logits: torch.Tensor = self._model(
            input_ids=ids[:, skipped:],
            attention_mask=mask,
            use_cache=True,
            logits_to_keep=positions - skipped,
            **{self._cache_name: cache},
        ).logits
        return logits

    def _compute(self, cache: DynamicCache, ids: Sequence[int]) -> None:
        if ids:
            batch = torch.tensor([list(ids)], device=self._model.device)
            self._model(input_ids=batch, use_cache=True, logits_to_keep=1, **{self._cache_name: cache})


def shared_prefix(prompts: Iterable[Sequence[int]]) -> tuple[int, ...]:
    """The tokens that all prompts begin with, without the last one of any, which predicts what follows it."""
    columns = zip(*(prompt[:-1] for prompt in prompts), strict=False)
    return tuple(column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns))
