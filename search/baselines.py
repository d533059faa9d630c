"""Configurations that anybody would try without a search: what its result has to stand beside."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adaptare.profiler import AdapterConfig, RankSpace

QUERY_AND_VALUE = ("q_proj", "v_proj")
FUSED_ATTENTION = ("qkv_proj",)


@dataclass(frozen=True)
class Baseline:
    """A configuration under the name that people know it by.

    Args:
        name: `uniform 8`, `q+v 8` (`qkv 8` where these linears are fused) or `midpoint`.
        config: Its ranks; need not be a choice of the space, but is never above the largest rank of a site there.
    """

    name: str
    config: AdapterConfig


def baselines(space: RankSpace) -> tuple[Baseline, ...]:
    """The baselines for a space: uniform ranks, query and value only, and the midpoint.

    Ranks are those that occur among the choices. Several names may stand for one configuration; whether one fits
    a budget is for `evaluate` to say.
    """
    kinds = FUSED_ATTENTION if any(site.kind in FUSED_ATTENTION for site in space.sites) else QUERY_AND_VALUE
    attention = [column for column, site in enumerate(space.sites) if site.kind in kinds]
    attention_name = "+".join(kind.removesuffix("_proj") for kind in kinds)
    found = [Baseline("midpoint", space.decode(space.expand(midpoint(space)[None])[0]))]
    found = [
        *_of_one_rank("uniform", space, range(space.n_sites)),
        *_of_one_rank(attention_name, space, attention),
        *found,
    ]
    return tuple(baseline for baseline in found if len(baseline.config))


def midpoint(space: RankSpace) -> NDArray[np.int64]:
    """The middle choice of every group; the larger of the two middle ones of an even number. Shape (n_groups,).

    References:
        Muñoz et al. 2024, "Shears: unstructured sparsity with neural low-rank adapter search" (its heuristic).
    """
    return space.n_choices // 2


def _of_one_rank(name: str, space: RankSpace, columns: Iterable[int]) -> list[Baseline]:
    """One baseline for each rank that every one of the sites can carry."""
    chosen = list(columns)
    largest = space.expand((space.n_choices - 1)[None])[0, chosen]
    ranks = sorted({rank for ranks in space.choices for rank in ranks if 0 < rank <= min(largest, default=0)})
    paths = [space.sites[column].path for column in chosen]
    return [Baseline(f"{name} {rank}", AdapterConfig.of(dict.fromkeys(paths, rank))) for rank in ranks]
