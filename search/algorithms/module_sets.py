"""Sets of linears by their kinds, as PEFT's `target_modules` names them, in every k-th layer, that fill a limit."""

from collections.abc import Iterable
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from adaptare.profiler import RANK, Space
from adaptare.search.budget.objective import Limit

Codes = NDArray[np.int64]


def module_sets(space: Space, limit: Limit) -> dict[str, Codes]:
    """Kinds of linears in every k-th layer at the largest rank that all of them can have, and all others without rank.

    Each set has the smallest k that fits. Sets are left out if another kind fits at no lower rank and no larger k. The
    rank is a choice of each linear, though the space may tie it to others.

    Args:
        space: Search space. In one that has more than ranks, or no rank 0, there are no sets.
        limit: Limit to meet.

    Returns:
        Name -> codes, shape (n_dimensions,), those with the most linears first. Names are `q+v 16`, or `q+v 16, one
        layer in 2` for the last of each two layers.

    References:
        Hu et al. 2022, "LoRA: low-rank adaptation of large language models", section 7.1 (which kinds to adapt).
    """
    if space.kinds != (RANK,) or any(axis.choices[0] > 0 for axis in space.axes):
        return {}
    kind_of = _kinds(space)
    choices: dict[str, set[int]] = {}
    for axis in space.axes:
        for kind in (kind_of[str(each.place)] for each in axis.dimensions):
            choices[kind] = choices.get(kind, set(axis.choices)) & set(axis.choices)
    names = list(dict.fromkeys(kind_of.values()))
    places = np.array([kind_of[str(each.place)] for each in space.dimensions])
    layers, ks = np.array([each.layer for each in space.dimensions]), np.arange(space.shape.layers)[:, None] + 1
    every = (layers + 1) % ks == 0  # shape (n_layers, n_dimensions)
    kept: list[tuple[set[str], int, int, Codes]] = []
    for n in range(len(names), 0, -1):
        for kinds in map(set, combinations(names, n)):
            rank = max(set.intersection(*(choices[kind] for kind in kinds)))
            by_k = rank * (every & np.isin(places, list(kinds)))
            fits = (limit.cost(by_k) <= limit.bound) & by_k.any(axis=1)
            k = int(fits.argmax())
            if fits[k] and not any(kinds < more and rank <= at and first <= k for more, at, first, _ in kept):
                kept.append((kinds, rank, k, by_k[k]))
    kept.sort(key=lambda each: -np.count_nonzero(each[-1]))
    return {
        f"{_name(name for name in names if name in kinds)} {rank}" + (f", one layer in {k + 1}" if k else ""): codes
        for kinds, rank, k, codes in kept
    }


def in_all_layers(space: Space, codes: Codes) -> tuple[str, NDArray[np.int64]]:
    """Name of the kinds of linears that have a rank, and the point with their largest ranks in all layers.

    Args:
        space: Search space of ranks down to 0, with an axis for each linear.
        codes: Shape (n_dimensions,).

    Returns:
        `q+v`, and a point, shape (n_axes,).
    """
    kind_of = _kinds(space)
    ranked = [str(each.place) for each, rank in zip(space.dimensions, codes, strict=True) if rank]
    kinds = {kind_of[place] for place in ranked}
    own = [kind_of[str(axis.dimensions[0].place)] in kinds for axis in space.axes]
    return _name(name for name in dict.fromkeys(kind_of.values()) if name in kinds), space.highest * own


def _name(kinds: Iterable[str]) -> str:
    """`q+v` of `q_proj` and `v_proj`."""
    return "+".join(kind.removesuffix("_proj") for kind in kinds)


def _kinds(space: Space) -> dict[str, str]:
    """Path of each linear -> its kind."""
    return {site.path: site.kind for site in space.sites}
