"""Evaluation of a configuration where many inputs begin with the same tokens, which are computed once."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache, PreTrainedModel

from adaptare.core import InputError
from adaptare.profiler.models.random_model import cache_argument
from adaptare.search.super_adapter.model import SuperAdapter


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

    def logits(self, ids: torch.Tensor, mask: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        """Logits of inputs that follow the prefix.

        Args:
            ids: Tokens after the prefix. Shape (n, longest).
            mask: 1 for tokens, 0 for padding, without the prefix. Shape (n, longest).
            keep: Positions, counted from the end of the prefix, to return logits of. Shape (n_kept,).

        Returns:
            Logits of shape (n, n_kept, vocabulary).
        """
        cache = copy.deepcopy(self._cache)
        if self._ids:
            cache.batch_repeat_interleave(len(ids))
        before = torch.ones(len(ids), len(self._ids), dtype=mask.dtype, device=mask.device)
        logits: torch.Tensor = self._model(
            input_ids=ids,
            attention_mask=torch.cat([before, mask], dim=1),
            use_cache=True,
            logits_to_keep=keep,
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


@contextmanager
def evaluated(super_adapter: SuperAdapter, codes: NDArray[np.int64]) -> Iterator[PreTrainedModel]:
    """Model in evaluation mode with a configuration active; both are restored afterwards.

    Raises:
        InputError: A weight of the adapters is not finite, which attention kernels may hide from the outputs.
    """
    for name, tensor in super_adapter.state().items():
        if not torch.isfinite(tensor).all():
            raise InputError(f"{name} has weights that are not finite; train again with a lower learning rate")
    model = super_adapter.model
    training = model.training
    model.eval()
    try:
        with super_adapter.activated(codes), torch.inference_mode():
            yield model
    finally:
        model.train(training)
