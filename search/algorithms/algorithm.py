"""Contract of a search algorithm."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Algorithm(Protocol):
    """Proposes genes and learns from their evaluations.

    Genes are choices per group of a `Space`, shape (n, n_dimensions). An algorithm is made with a space and a
    `seed`; the same seed and the same answers give the same proposals.
    """

    def ask(self, n: int) -> NDArray[np.int64]:
        """Genes to try next. Shape (n, n_dimensions), exactly n rows, each gene below its group's `n_choices`."""
        ...

    def tell(self, genes: NDArray[np.int64], values: NDArray[np.float64], violations: NDArray[np.float64]) -> None:
        """Receives evaluated genes.

        The genes may differ from those returned by `ask`: a search repairs them and drops those already evaluated.

        Args:
            genes: Shape (n, n_dimensions).
            values: Objectives to minimise, shape (n, n_objectives); NaN where the violation is above zero.
            violations: Excess over the worst limit, as a share of it; 0 = feasible. Shape (n,).
        """
        ...
