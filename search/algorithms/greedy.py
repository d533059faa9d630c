"""Greedy choice of ranks by importance per predicted latency: a baseline that needs no evaluation of a loss."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from adaptare.profiler import Space
from adaptare.search.budget.objective import Limit

# Seconds below which added latency counts as none, so that importance decides.
LEAST_S = 1e-9


def greedy_genes(space: Space, importance: Mapping[str, NDArray[np.float64]], limit: Limit) -> NDArray[np.int64] | None:
    """Genes that collect importance in the order of importance per added cost, as long as the limit is met.

    Begins with the lowest rank of every dimension, and widths as in the base. Each step raises one dimension, by any
    number of choices, and takes the one with the largest ratio of added importance to added cost among those that stay
    within the limit.

    Args:
        space: Search space. Widths and depth are not changed.
        importance: Module path -> importance of each component of its adapter, in the order in which ranks include
            them. Shape (largest rank,).
        limit: Upper limit on a cost, for example the upper end of a predicted latency.

    Returns:
        Shape (n_axes,), or `None` if the beginning exceeds the limit already or no adapter fits.

    References:
        Michel et al. 2019, "Are sixteen heads really better than one?", for choices by gradients of gates.
    """
    gains = [_gains(space, number, importance) for number in range(space.n_axes)]
    genes = np.array(
        [0 if len(gain) else n - 1 for gain, n in zip(gains, space.n_choices, strict=True)], dtype=np.int64
    )
    cost = _costs(space, genes[None], limit)[0]
    if not cost <= limit.bound:
        return None
    while moves := [(number, to) for number, gain in enumerate(gains) for to in range(genes[number] + 1, len(gain))]:
        numbers, choices = np.array(moves).T
        raised = np.repeat(genes[None], len(moves), axis=0)
        raised[np.arange(len(moves)), numbers] = choices
        costs = _costs(space, raised, limit)
        added = np.array([gains[number][to] - gains[number][genes[number]] for number, to in moves])
        ratios = np.where(costs <= limit.bound, added / np.maximum(costs - cost, LEAST_S), -np.inf)
        best = int(np.argmax(ratios))
        if not ratios[best] > 0:
            break
        genes, cost = raised[best], costs[best]
    return genes if space.changes_base(space.expand(genes[None]))[0] else None


def _gains(space: Space, number: int, importance: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """Importance of each choice of a dimension; empty for widths and depth. Shape (n_choices,)."""
    axis = space.axes[number]
    if axis.kind.cuts:
        return np.empty(0)
    of_sites = [importance.get(each.place, np.empty(0)) for each in axis.dimensions]
    cumulative = sum(np.append(0.0, np.cumsum(values))[list(axis.choices)] for values in of_sites)
    return np.asarray(cumulative, dtype=np.float64)


def _costs(space: Space, genes: NDArray[np.int64], limit: Limit) -> NDArray[np.float64]:
    return np.asarray(limit.cost(space.expand(genes)), dtype=np.float64)
