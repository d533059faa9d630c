"""Sampling of the configuration trained in each optimiser step."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from adaptare.devices import InputError
from adaptare.profiler import Space

MOST_DRAWS = 1000


class StepSampler(Protocol):
    """Draws the configuration of one optimiser step; its `repr` names the rule."""

    def draw(self, space: Space, rng: np.random.Generator) -> NDArray[np.int64]:
        """Genes of a configuration. Shape (n_dimensions,)."""
        ...


@dataclass(frozen=True)
class UniformSampler:
    """Draws each group's choice uniformly: the rule of LoNAS, Shears and SQFT."""

    def draw(self, space: Space, rng: np.random.Generator) -> NDArray[np.int64]:
        """See `StepSampler.draw`."""
        genes: NDArray[np.int64] = space.sample(1, rng)[0]
        return genes


@dataclass(frozen=True)
class SandwichSampler:
    """Draws the largest configuration at a fixed share of the steps, else one at random.

    The sandwich rule of slimmable networks trains the largest, the smallest and random widths in every step. Here a
    step has one configuration, and the smallest has nothing to train where ranks begin at 0; only the largest is drawn
    more often.

    Args:
        largest: Share of the steps with every rank at its largest, 0 to 1.

    References:
        Yu & Huang 2019, "Universally slimmable networks", section 3.2, for the rule this one departs from.
    """

    largest: float = 0.25

    def __post_init__(self) -> None:
        if not 0 <= self.largest <= 1:
            raise InputError(f"the share of the largest configuration must be 0 to 1, not {self.largest}")

    def draw(self, space: Space, rng: np.random.Generator) -> NDArray[np.int64]:
        """See `StepSampler.draw`."""
        if rng.random() < self.largest:
            return space.n_choices - 1
        genes: NDArray[np.int64] = space.sample(1, rng)[0]
        return genes


def step_codes(sampler: StepSampler, space: Space, *, seed: int, step: int) -> NDArray[np.int64]:
    """Codes of the configuration of one step, independent of earlier draws. Shape (n_columns,).

    A configuration without any adapter has nothing to train and is redrawn.
    """
    rng = np.random.default_rng([seed, step])
    for _ in range(MOST_DRAWS):
        codes: NDArray[np.int64] = space.expand(sampler.draw(space, rng)[None])[0]
        if space.has_adapter(codes[None])[0]:
            return codes
    raise InputError(f"{sampler!r} draws no adapter from the space {space.name!r}; give it ranks above 0")
