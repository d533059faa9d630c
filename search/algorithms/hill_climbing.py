"""Hill climbing: local search from one configuration, by single steps."""

import numpy as np
from numpy.typing import NDArray

from adaptare.profiler import Space
from adaptare.search.algorithms.baselines import midpoint


class HillClimbing:
    """Climbs from the midpoint, or the best that it was told of before, by the best of neighbours evaluated together.

    A neighbour has one dimension one choice higher or lower. Each answer moves to its best configuration if that has a
    smaller first objective than the present one; further objectives are ignored. When all neighbours were proposed and
    none was better, the climb restarts from the best of a batch of random configurations. All neighbours asked for at
    once is steepest ascent; a few of them at random is what a budget of evaluations allows in a large space.

    Args:
        space: Search space.
        seed: Seed of the order of neighbours and of the restarts.

    References:
        Muñoz et al. 2024, "Shears: unstructured sparsity with neural low-rank adapter search", which names hill
        climbing from the midpoint; its published code has none, so the neighbourhood is a choice made here.
    """

    def __init__(self, space: Space, *, seed: int) -> None:
        self._space = space
        self._rng = np.random.default_rng(seed)
        first = midpoint(space)
        self._lowest = np.inf
        self._queue = np.concatenate([first[None], self._neighbours(first)])

    def ask(self, n: int) -> NDArray[np.int64]:
        """Neighbours that were not proposed yet, then random points. Shape (n, n_axes)."""
        if not len(self._queue):
            self._lowest = np.inf
        asked, self._queue = self._queue[:n], self._queue[n:]
        return np.concatenate([asked, self._space.spread(n - len(asked), self._rng)])

    def tell(self, points: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        """Moves to the best of the points if it is an improvement."""
        best = values[:, 0].argmin() if len(points) else 0
        if len(points) and values[best, 0] < self._lowest:
            self._lowest = float(values[best, 0])
            self._queue = self._neighbours(points[best])

    def _neighbours(self, points: NDArray[np.int64]) -> NDArray[np.int64]:
        """All neighbours, in random order. Shape (n_neighbours, n_axes)."""
        steps = np.eye(len(points), dtype=np.int64)
        around = np.concatenate([points - steps, points + steps])
        inside = around[np.all((around >= 0) & (around < self._space.n_choices), axis=1)]
        return self._rng.permutation(inside)
