"""Greedy choice of ranks by importance per predicted latency: a baseline that needs no evaluation of a loss."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from adaptare.profiler import Axis, Space
from adaptare.search.budget.objective import Limit

# Seconds below which added latency counts as none, so that importance decides.
LEAST_S = 1e-9


def greedy_point(space: Space, importance: Mapping[str, NDArray[np.float64]], limit: Limit) -> NDArray[np.int64] | None:
    """The point that collects importance in the order of importance per added cost, as long as the limit is met.

    Begins with the lowest rank of every axis, and widths as in the base. Each step raises one axis, by any number of
    choices, and takes the one with the largest ratio of added importance to added cost among those that stay within
    the limit.

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
    gains = [_gains(axis, importance) for axis in space.axes]
    point = np.where([len(gain) > 0 for gain in gains], 0, space.highest)
    cost = limit.cost(space.at(point)[None])[0]
    if not cost <= limit.bound:
        return None
    while moves := [(number, to) for number, gain in enumerate(gains) for to in range(point[number] + 1, len(gain))]:
        numbers, choices = np.array(moves).T
        raised = np.repeat(point[None], len(moves), axis=0)
        raised[np.arange(len(moves)), numbers] = choices
        costs = limit.cost(space.at(raised))
        added = np.array([gains[number][to] - gains[number][point[number]] for number, to in moves])
        ratios = np.where(costs <= limit.bound, added / np.maximum(costs - cost, LEAST_S), -np.inf)
        best = int(np.argmax(ratios))
        if not ratios[best] > 0:
            break
        point, cost = raised[best], costs[best]
    return point if space.changes_base(space.at(point)) else None


def _gains(axis: Axis, importance: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """Importance of each choice of an axis; empty for widths and depth. Shape (n_choices,)."""
    if axis.kind.cuts:
        return np.empty(0)
    of_sites = [importance.get(each.place, np.empty(0)) for each in axis.dimensions]
    cumulative = sum(np.append(0.0, np.cumsum(values))[list(axis.choices)] for values in of_sites)
    return np.asarray(cumulative, dtype=np.float64)
