"""Sampler around a budget, where a search finds its winners."""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.profiler import Space
from adaptare.search.algorithms.budget_repair import BudgetRepair
from adaptare.search.budget.objective import Limit
from adaptare.search.training.samplers import SPREAD, Sampler

CANDIDATES: Final = 32  # predicted in one call
ATTEMPTS: Final = 4


@dataclass(frozen=True)
class BudgetSampler:
    """Draws configurations with a predicted cost near a limit.

    The band is `bound` plus and minus a share of its distance from the cost of the base. Draws of another sampler
    outside of it are rejected; if none is inside, one is lowered until it is not above the band.

    Args:
        limit: Predicted cost and its bound.
        band: Half-width of the band as a share of the distance between bound and base, 0 to 1.
        among: Sampler of the draws.

    Raises:
        InfeasibleBudgetError: On drawing, if no adapter of the space is predicted to be below the band's upper end.
    """

    limit: Limit = field(repr=False)
    band: float = 0.25
    among: Sampler = SPREAD

    def __post_init__(self) -> None:
        if not 0 < self.band <= 1:
            raise InputError(f"the band around a budget must be a share above 0 and up to 1, not {self.band}")

    def __repr__(self) -> str:
        # The bound is a function of the predictor, so it identifies the predictor too.
        bound = f"{self.limit.cost.name}={self.limit.bound!r}"
        return f"BudgetSampler({bound}, band={self.band!r}, among={self.among!r})"

    def draw(self, space: Space, rng: np.random.Generator, /) -> NDArray[np.int64]:
        """See `Sampler.draw`."""
        cost, bound = self.limit.cost, self.limit.bound
        width = self.band * abs(bound - float(cost(space.base[None])[0]))
        for _ in range(ATTEMPTS):
            genes = np.stack([self.among.draw(space, rng) for _ in range(CANDIDATES)])
            near = np.flatnonzero(np.abs(cost(space.expand(genes)) - bound) <= width)
            if len(near):
                drawn: NDArray[np.int64] = genes[near[0]]
                return drawn
        repair = BudgetRepair(space, [Limit(cost, bound + width)], seed=int(rng.integers(2**32)))
        repaired: NDArray[np.int64] = repair(genes[:1])[0]
        return repaired
