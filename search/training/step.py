"""Configurations trained in one optimiser step, and rules that draw them."""

from dataclasses import dataclass, field
from math import inf
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.profiler import Space
from adaptare.search.algorithms.budget_repair import BudgetRepair
from adaptare.search.budget.objective import Limit

CANDIDATES: Final = 32  # of a sampler around a budget, predicted in one call
ATTEMPTS: Final = 4
MOST_DRAWS: Final = 1000  # until one has an adapter


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


@dataclass(frozen=True)
class Distillation:
    """Loss of a configuration that learns from another one: its cross-entropy with the examples, and a divergence.

    For the logits x of the configuration and y of the other one, the loss of a token is
    labels * CE(x, token) + outputs * T^2 * KL(softmax(y / T) || softmax(x / T)).

    Args:
        labels: Weight of the cross-entropy with the examples.
        outputs: Weight of the divergence.
        temperature: T.

    References:
        Hinton et al. 2015, "Distilling the knowledge in a neural network", section 2.
    """

    labels: float = 0.0
    outputs: float = 1.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not (0 <= self.labels < inf and 0 < self.outputs < inf and 0 < self.temperature < inf):
            raise InputError(
                "distillation needs a weight of the labels of 0 or more, and a weight of the outputs and a temperature "
                f"above 0, all finite, not {self.labels}, {self.outputs} and {self.temperature}"
            )


@dataclass(frozen=True)
class TrainingStep:
    """Configurations whose gradients are accumulated in one optimiser step, and their loss.

    With `ends`, the largest configuration comes first and the smallest last, unless it has no adapter and so
    nothing to train: the sandwich rule. With `distil`, the largest learns from the examples and all others from its
    outputs, detached, too: in-place distillation. Otherwise all learn from the examples.
    The cost of a step is proportional to the number of its configurations.

    Args:
        sampler: Draws configurations.
        draws: Number of configurations drawn.
        ends: True to train the largest and the smallest configuration as well.
        distil: Loss of in-place distillation; needs `ends`. `None` for none.

    References:
        Yu & Huang 2019, "Universally slimmable networks and improved training techniques", sections 3.2 and 3.3.
    """

    sampler: Sampler
    draws: int = 1
    ends: bool = False
    distil: Distillation | None = None

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise InputError(f"a training step needs at least 1 drawn configuration, not {self.draws}")
        if not isinstance(self.distil, Distillation | None):
            raise InputError(f"distil must be a Distillation, such as Distillation(), or None, not {self.distil!r}")
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


SANDWICH = TrainingStep(SPREAD, draws=2, ends=True, distil=Distillation())
# The rule used where a recipe names none; benchmarks/samplers.py compares it with the others.
DEFAULT_STEP = TrainingStep(LargestShareSampler())
