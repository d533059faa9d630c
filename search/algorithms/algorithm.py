"""The contract of what proposes configurations."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Algorithm(Protocol):
    """Proposes genes and learns from what became of them.

    Genes are choices per group of a `Space`, shape (n, n_dimensions). An algorithm is made with a space and a
    `seed`; the same seed and the same answers give the same proposals.
    """

    def ask(self, n: int) -> NDArray[np.int64]:
        """Genes to try next. Shape (n, n_dimensions), exactly n rows, each gene below its group's `n_choices`."""
        ...

    def tell(self, genes: NDArray[np.int64], values: NDArray[np.float64], violations: NDArray[np.float64]) -> None:
        """Takes in what was found out.

        The genes need not be those that were asked for: a search repairs them, and leaves out what it knows.

        Args:
            genes: Shape (n, n_dimensions).
            values: Objectives to minimise, shape (n, n_objectives); NaN where the violation is above zero.
            violations: How far the worst limit is exceeded, as a share of it; 0 = feasible. Shape (n,).
        """
        ...
