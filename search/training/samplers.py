"""Rules that draw the configurations of training steps."""

from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.profiler import Space
from adaptare.search.algorithms.budget_repair import BudgetRepair
from adaptare.search.budget.objective import Limit

CANDIDATES: Final = 32  # of a sampler around a budget, predicted in one call
ATTEMPTS: Final = 4


class Sampler(Protocol):
    """Draws a configuration of a training step; its `repr` names the rule and is kept in the record of the training."""

    def draw(self, space: Space, rng: np.random.Generator, /) -> NDArray[np.int64]:
        """Points of a configuration. Shape (n_axes,)."""
        ...


@dataclass(frozen=True)
class UniformSampler:
    """Draws each dimension's choice uniformly: the rule of LoNAS, Shears and SQFT."""

    def draw(self, space: Space, rng: np.random.Generator, /) -> NDArray[np.int64]:
        points: NDArray[np.int64] = space.sample(1, rng)[0]
        return points


@dataclass(frozen=True)
class SpreadSampler:
    """Draws from few to many sites and from low to high ranks; see `Space.spread`.

    Independent uniform draws have nearly the same number of sites every time, and never as few as a budget allows.
    """

    def draw(self, space: Space, rng: np.random.Generator, /) -> NDArray[np.int64]:
        points: NDArray[np.int64] = space.spread(1, rng)[0]
        return points


UNIFORM: Final = UniformSampler()
SPREAD: Final = SpreadSampler()


@dataclass(frozen=True)
class LargestShareSampler:
    """Draws the largest configuration at a fixed share of the steps, else one by another sampler.

    Args:
        share: Share of the steps with every rank at its largest, 0 to 1.
        otherwise: Draws the other steps.
    """

    share: float = 0.25
    otherwise: Sampler = UNIFORM

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise InputError(f"the share of the largest configuration must be 0 to 1, not {self.share}")

    def draw(self, space: Space, rng: np.random.Generator, /) -> NDArray[np.int64]:
        if rng.random() < self.share:
            return space.highest
        return self.otherwise.draw(space, rng)


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
        cost, bound = self.limit.cost, self.limit.bound
        width = self.band * abs(bound - float(cost(space.base[None])[0]))
        for _ in range(ATTEMPTS):
            points = np.stack([self.among.draw(space, rng) for _ in range(CANDIDATES)])
            near = np.flatnonzero(np.abs(cost(space.at(points)) - bound) <= width)
            if len(near):
                drawn: NDArray[np.int64] = points[near[0]]
                return drawn
        repair = BudgetRepair(space, [Limit(cost, bound + width)], seed=int(rng.integers(2**32)))
        repaired: NDArray[np.int64] = repair(points[:1])[0]
        return repaired
