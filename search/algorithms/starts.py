"""Starts of a race: configurations that use a budget in different ways."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from adaptare.profiler import Space
from adaptare.search.algorithms.algorithm import STAGED
from adaptare.search.algorithms.baselines import uniform_cuts
from adaptare.search.algorithms.budget_repair import BudgetRepair
from adaptare.search.algorithms.staged_shrinking import Points, Table, filled, lowered
from adaptare.search.budget.objective import Limit

# Ranks of which the best sites are taken, the largest of the space.
RANKS: Final = 3


def portfolio(
    space: Space,
    limit: Limit,
    incumbent: Points,
    *,
    changes: Table | None = None,
    others: Mapping[str, Table] | None = None,
    most: int,
    seed: int,
) -> dict[str, Points]:
    """An incumbent, and configurations of other kinds that fill a limit.

    They are: the largest configuration lowered in one stage, choices by other estimates, uniform cuts as they are,
    those with the largest cost first, one layer in k at the largest rank and at a lower one, the best sites at one
    rank, and random ones.

    Args:
        space: Search space.
        limit: Limit to meet.
        incumbent: The first of them, such as the result of `staged`. Shape (n_axes,).
        changes: Changes of the loss at the largest configuration, by which the others are lowered and filled; `None`
            for random ones alone.
        others: Name -> changes of the loss by another estimate.
        most: Number of configurations at most.
        seed: Seed of the random ones.

    Returns:
        Name -> different points, shape (n_axes,).

    Raises:
        InfeasibleBudgetError: No configuration of the space meets the limit.
    """
    repair, rng = BudgetRepair(space, [limit], seed=seed), np.random.default_rng(seed)
    named = [(STAGED, incumbent), *(() if changes is None else _named(space, limit, changes, others or {}))]
    wild = repair.fill(repair(space.spread(most, rng)))
    found: dict[str, Points] = {}
    for name, point in (*named, *((f"random {number}", point) for number, point in enumerate(wild, start=1))):
        if len(found) < most and not any(np.array_equal(point, other) for other in found.values()):
            found[name] = point
    return found


def fitting_cuts(space: Space, limit: Limit) -> dict[str, Points]:
    """Uniform cuts within a limit, those with the largest cost first, as larger models have lower losses."""
    cuts = uniform_cuts(space)
    costs = {name: limit.cost(space.at(point)[None])[0] for name, point in cuts.items()}
    slowest = sorted(cuts, key=lambda name: -costs[name])
    return {name: cuts[name] for name in slowest if costs[name] <= limit.bound}


def by_estimate(space: Space, table: Table, limit: Limit) -> Points | None:
    """Fills the lowest choices of the axes with an estimate, with the largest of others; `None` if beyond a limit.

    Args:
        space: Search space.
        table: Changes of the loss at any point.
        limit: Limit to meet.
    """
    lowest = np.where(np.isfinite(table).any(axis=1), 0, space.highest)
    if not limit.cost(space.at(lowest)[None])[0] <= limit.bound:
        return None
    point = filled(space, lowest, table, limit, limit.bound)
    return point if space.changes_base(space.at(point)) else None


def _named(space: Space, limit: Limit, table: Table, others: Mapping[str, Table]) -> Iterator[tuple[str, Points]]:
    bound = limit.bound
    once = lowered(space, space.highest, table, limit, bound)
    tried = {
        "one-shot Fisher": None if once is None else filled(space, once, table, limit, bound),
        **{name: by_estimate(space, other, limit) for name, other in others.items()},
        **fitting_cuts(space, limit),
    }
    ranks = sorted({rank for axis in space.axes if not axis.kind.cuts for rank in axis.choices if rank}, reverse=True)
    # The largest rank in as many layers as fit, and the largest rank that fits in more of them.
    for some in (ranks[:1], ranks):
        for k, rank in product(range(1, space.shape.layers + 1), some):
            if (sparse := _every(k, space, rank)) is not None and _fits(space, sparse, limit):
                name = f"{f'one layer in {k}' if k > 1 else 'every layer'} at rank {rank}"
                if name not in tried:
                    tried[name] = filled(space, sparse, table, limit, bound)
                break
    for rank in ranks[:RANKS]:
        tried[f"best sites at rank {rank}"] = by_estimate(space, _only(rank, space, table), limit)
    yield from ((name, point) for name, point in tried.items() if point is not None)


def _fits(space: Space, point: Points, limit: Limit) -> bool:
    codes = space.at(point)[None]
    return bool(limit.cost(codes)[0] <= limit.bound and space.changes_base(codes)[0])


def _every(k: int, space: Space, rank: int) -> Points | None:
    """A rank, or the next lower one, in every k-th layer, the last of each k, and the lowest ranks in others."""
    layers = [{each.layer for each in axis.dimensions} for axis in space.axes]
    ranked = [not axis.kind.cuts for axis in space.axes]
    if any(rank and len(own) > 1 for rank, own in zip(ranked, layers, strict=True)):
        return None  # ranks of several layers are tied
    dropped = [rank and (min(own) + 1) % k > 0 for rank, own in zip(ranked, layers, strict=True)]
    at_rank = [max(0, bisect_right(axis.choices, rank) - 1) for axis in space.axes]
    return np.where(dropped, 0, np.where(ranked, at_rank, space.highest))


def _only(rank: int, space: Space, table: Table) -> NDArray[np.float64]:
    """The table of ranks, with the lowest choices and one rank alone."""
    only = np.full_like(table, np.nan)
    for number, axis in enumerate(space.axes):
        if not axis.kind.cuts:
            columns = [0, *(column for column, choice in enumerate(axis.choices) if choice == rank)]
            only[number, columns] = table[number, columns]
    return only
