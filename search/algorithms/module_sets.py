"""Sets of linears by their kinds, as PEFT's `target_modules` names them, that fill a limit."""

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from adaptare.profiler import RANK, Space
from adaptare.search.budget.objective import Limit


def module_sets(space: Space, limit: Limit) -> dict[str, NDArray[np.int64]]:
    """Kinds of linears that have the largest rank they can have in common in all layers, and all others none.

    Sets into which another kind fits at no lower rank are left out. The rank is a choice of each linear, though the
    space may tie it to others.

    Args:
        space: Search space. In one that has more than ranks, or no rank 0, there are no sets.
        limit: Limit to meet.

    Returns:
        `q+v 16` -> codes, shape (n_dimensions,), those of the most kinds first.

    References:
        Hu et al. 2022, "LoRA: low-rank adaptation of large language models", section 7.1 (which kinds to adapt).
    """
    if space.kinds != (RANK,) or any(axis.choices[0] > 0 for axis in space.axes):
        return {}
    kind_of = {site.path: site.kind for site in space.sites}
    kinds = np.array([kind_of[str(each.place)] for each in space.dimensions])
    choices: dict[str, set[int]] = {}
    for axis in space.axes:
        for kind in (kind_of[str(each.place)] for each in axis.dimensions):
            choices[kind] = choices.get(kind, set(axis.choices)) & set(axis.choices)
    names = list(dict.fromkeys(kind_of.values()))
    kept: list[tuple[set[str], int, NDArray[np.int64]]] = []
    for n in range(len(names), 0, -1):
        sets = list(map(set, combinations(names, n)))
        ranks = [max(set.intersection(*(choices[kind] for kind in each))) for each in sets]
        codes = np.array([rank * np.isin(kinds, list(each)) for each, rank in zip(sets, ranks, strict=True)])
        fits = limit.cost(codes) <= limit.bound
        kept += [
            (each, rank, row)
            for each, rank, row, fit in zip(sets, ranks, codes, fits, strict=True)
            if rank and fit and not any(each < more and rank <= other for more, other, _ in kept)
        ]
    return {
        f"{'+'.join(kind.removesuffix('_proj') for kind in names if kind in each)} {rank}": row
        for each, rank, row in kept
    }
