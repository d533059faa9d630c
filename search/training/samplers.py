"""Rules that draw the configurations of training steps."""

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.profiler import Space


class Sampler(Protocol):
    """Draws a configuration of a training step; its `repr` names the rule and is kept in the record of the training."""

    def draw(self, space: Space, rng: np.random.Generator, /) -> NDArray[np.int64]:
        """Genes of a configuration. Shape (n_dimensions,)."""
        ...


@dataclass(frozen=True)
class UniformSampler:
    """Draws each dimension's choice uniformly: the rule of LoNAS, Shears and SQFT."""

    def draw(self, space: Space, rng: np.random.Generator, /) -> NDArray[np.int64]:
        """See `Sampler.draw`."""
        genes: NDArray[np.int64] = space.sample(1, rng)[0]
        return genes


@dataclass(frozen=True)
class SpreadSampler:
    """Draws from few to many sites and from low to high ranks; see `Space.spread`.

    Independent uniform draws have nearly the same number of sites every time, and never as few as a budget allows.
    """

    def draw(self, space: Space, rng: np.random.Generator, /) -> NDArray[np.int64]:
        """See `Sampler.draw`."""
        genes: NDArray[np.int64] = space.spread(1, rng)[0]
        return genes


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
        """See `Sampler.draw`."""
        if rng.random() < self.share:
            return space.n_choices - 1
        return self.otherwise.draw(space, rng)
