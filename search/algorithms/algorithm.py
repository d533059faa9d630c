"""Contract of a search algorithm."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from adaptare.core.extensions import extension

ALGORITHMS = "adaptare.algorithms"
# The default of the recipes placement and subnet. It is no `Algorithm`: it needs gradients, and losses on parts of the
# examples.
STAGED = "staged-fisher"


class Algorithm(Protocol):
    """Proposes points of a `Space` and learns from their evaluations.

    A point has one integer for each axis, from 0 to below `n_choices`: the index of its choice. An algorithm is made
    with a space and a `seed`; the same seed and the same answers give the same proposals. It is handed over to
    `search`, or named on the command line by an entry point in the group `adaptare.algorithms`.
    """

    def ask(self, n: int) -> NDArray[np.int64]:
        """Points to try next. Shape (n, n_axes), exactly n rows."""
        ...

    def tell(self, points: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        """Receives evaluated points, all of which meet the limits.

        The points may differ from those returned by `ask`: a search repairs them and drops those already evaluated. It
        may also begin with points of its own, so this may be called before `ask`.

        Args:
            points: Shape (n, n_axes).
            values: Objectives to minimise, shape (n, n_objectives); finite.
        """
        ...


def algorithm_named(name: str) -> Callable[..., Algorithm]:
    """The class registered by this name, or the function that makes an algorithm; called with a space and `seed=`.

    Raises:
        InputError: No installed package registers it.
    """
    made: Callable[..., Algorithm] = extension(ALGORITHMS, name, kind="search algorithm", others=(STAGED,))
    return made
