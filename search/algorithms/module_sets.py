"""Sets of linears by their kinds, as PEFT's `target_modules` names them, that fill a limit."""

from itertools import combinations
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from adaptare.profiler import RANK, Space
from adaptare.search.budget.objective import Limit


def module_sets(space: Space, limit: Limit) -> dict[str, NDArray[np.int64]]:
    """Kinds of linears that have the largest rank they can have in common in all layers, and all others none.

    Sets into which another kind fits are left out. The rank is a choice of each linear, though the space may tie it to
    others.

    Args:
        space: Search space. In one that has more than ranks, or no rank 0, there are no sets.
        limit: Limit to meet.

    Returns:
        `q+v 16` -> codes, shape (n_dimensions,).

    References:
        Hu et al. 2022, "LoRA: low-rank adaptation of large language models", section 7.1 (which kinds to adapt).
    """
    if space.kinds != (RANK,) or any(axis.choices[0] > 0 for axis in space.axes):
        return {}
    kind_of = {site.path: site.kind for site in space.sites}
    kinds = np.array([kind_of[str(each.place)] for each in space.dimensions])
    allowed = [set(axis.choices) for axis in space.axes for _ in axis.dimensions]
    found: dict[tuple[str, ...], NDArray[np.int64]] = {}
    in_order = dict.fromkeys(map(attrgetter("kind"), space.sites))
    for n in range(len(in_order), 0, -1):
        for some in combinations(in_order, n):
            members = np.isin(kinds, some)
            common = set.intersection(*(own for own, one in zip(allowed, members, strict=True) if one))
            rank = max(common)
            codes = members * rank
            if rank and limit.cost(codes[None])[0] <= limit.bound and not any(set(some) < set(more) for more in found):
                found[some] = codes
    named = {"+".join(kind.removesuffix("_proj") for kind in some): codes for some, codes in found.items()}
    return {f"{name} {codes.max()}": codes for name, codes in named.items()}
