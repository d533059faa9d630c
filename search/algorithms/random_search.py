"""Random search: the baseline for every other algorithm at an equal number of evaluations."""

import numpy as np
from numpy.typing import NDArray

from adaptare.profiler import Space


class RandomSearch:
    """Points spread from few to many adapters and from low to high ranks, independent of earlier results.

    Args:
        space: Search space.
        seed: The same seed gives the same points.
    """

    def __init__(self, space: Space, *, seed: int) -> None:
        self._space = space
        self._rng = np.random.default_rng(seed)

    def ask(self, n: int) -> NDArray[np.int64]:
        """Points of n random configurations. Shape (n, n_axes)."""
        return self._space.spread(n, self._rng)

    def tell(self, points: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        """Ignores the evaluations."""
