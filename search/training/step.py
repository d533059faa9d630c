"""Configurations trained in one optimiser step."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.profiler import Space
from adaptare.search.training.samplers import SPREAD, LargestShareSampler, Sampler

MOST_DRAWS = 1000


@dataclass(frozen=True)
class TrainingStep:
    """Configurations whose gradients are accumulated in one optimiser step, and their loss.

    With `ends`, the largest configuration comes first and the smallest last, unless it has no adapter and so
    nothing to train: the sandwich rule. With `distil`, the largest learns from the examples and all others from its
    output distribution, detached: in-place distillation. Otherwise all learn from the examples.
    The cost of a step is proportional to the number of its configurations.

    Args:
        sampler: Draws configurations.
        draws: Number of configurations drawn.
        ends: True to train the largest and the smallest configuration as well.
        distil: True for in-place distillation; needs `ends`.

    References:
        Yu & Huang 2019, "Universally slimmable networks and improved training techniques", sections 3.2 and 3.3.
    """

    sampler: Sampler
    draws: int = 1
    ends: bool = False
    distil: bool = False

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise InputError(f"a training step needs at least 1 drawn configuration, not {self.draws}")
        if self.distil and not self.ends:
            raise InputError("distillation needs the largest configuration in the step; set ends=True too")

    def codes(self, space: Space, *, seed: int, step: int) -> NDArray[np.int64]:
        """Codes of the configurations of one step, independent of earlier steps. Shape (n, n_columns).

        Configurations without any adapter have nothing to train: drawn ones are drawn again, the smallest is left out.

        Raises:
            InputError: The sampler draws no configuration with an adapter.
        """
        rng = np.random.default_rng([seed, step])
        points = [self._drawn(space, rng) for _ in range(self.draws)]
        if self.ends:
            points = [space.highest, *points, 0 * space.n_choices]
        codes = space.at(np.stack(points))
        return codes[space.has_adapter(codes)]

    def _drawn(self, space: Space, rng: np.random.Generator) -> NDArray[np.int64]:
        for _ in range(MOST_DRAWS):
            points = self.sampler.draw(space, rng)
            if space.has_adapter(space.at(points[None]))[0]:
                return points
        raise InputError(f"{self.sampler!r} draws no adapter from the space {space.name!r}; give it ranks above 0")


SANDWICH = TrainingStep(SPREAD, draws=2, ends=True, distil=True)
# The rule used where a recipe names none; benchmarks/samplers.py compares it with the others.
DEFAULT_STEP = TrainingStep(LargestShareSampler())
