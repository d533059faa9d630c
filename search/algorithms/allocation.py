"""Ranks that lose the least under a limit, where each site loses something of its own at each rank."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from adaptare.profiler import Space
from adaptare.search.budget.candidate import feasible
from adaptare.search.budget.objective import Limit

PRICES = 256


@dataclass(frozen=True)
class SumOfSites:
    """Objective that adds up what each site loses at its rank.

    Args:
        lost: Loss of each column at each rank. Shape (n_columns, largest rank + 1).
        name: Name of the objective, with its unit.
    """

    lost: NDArray[np.float64] = field(repr=False)
    name: str

    def __call__(self, codes: NDArray[np.int64], /) -> NDArray[np.float64]:
        """Shape (n, n_columns) -> (n,)."""
        total: NDArray[np.float64] = self.lost[np.arange(codes.shape[1]), codes].sum(axis=1)
        return total


def allocations(space: Space, loss: SumOfSites, limit: Limit, *, most: int) -> NDArray[np.int64]:
    """Points that lose the least at a price of the limited quantity, for prices at which they meet the limit.

    At a price, every axis has the choice whose loss plus price times cost is smallest, where its cost is that of
    this choice with all others at their largest (Lagrange relaxation of the multiple-choice knapsack problem). The
    prices are ratios of loss to cost between choices.

    Args:
        space: Space of ranks.
        loss: Loss of each site at each rank.
        limit: Limit to meet.
        most: Number of rows at most, those with the least loss.

    Returns:
        Shape (n, n_axes), the least loss first; none of the base itself.
    """
    moves = [(number, choice) for number, n in enumerate(space.n_choices.tolist()) for choice in range(n)]
    points = np.repeat(space.highest[None], len(moves), axis=0)
    for row, (number, choice) in enumerate(moves):
        points[row, number] = choice
    codes = space.at(points)
    losses, costs = loss(codes), limit.cost(codes)
    table = np.full((2, space.n_axes, int(space.n_choices.max())), np.nan)
    for (number, choice), *pair in zip(moves, losses, costs, strict=True):
        table[:, number, choice] = pair
    lost, cost = table
    more, saved = (quantity[:, :, None] - quantity[:, None, :] for quantity in (lost, -cost))
    ratios = more[saved > 0] / saved[saved > 0]
    prices: list[float] = np.quantile(ratios, np.linspace(0, 1, PRICES)).tolist() if len(ratios) else []
    cheapest = np.array([np.nanargmin(lost + price * cost, axis=1) for price in prices], dtype=np.int64)
    cheapest = np.unique(cheapest.reshape(-1, space.n_axes), axis=0)
    codes = space.at(cheapest)
    fits = feasible(codes, [limit]) & space.changes_base(codes)
    best: NDArray[np.int64] = cheapest[fits][np.argsort(loss(codes[fits]))][:most]
    return best
