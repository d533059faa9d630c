"""Repair of infeasible configurations before their expensive evaluation."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from adaptare.core import InputError, NoSolutionError
from adaptare.profiler import Space
from adaptare.search.budget.candidate import limit_costs, violations
from adaptare.search.budget.objective import Limit

# SI unit that the name of a limited quantity ends in -> displayed unit, and the factor to it.
_SHOWN: Final = {"s": ("ms", 1e3), "J": ("mJ", 1e3), "B": ("MB", 1e-6), "W": ("W", 1.0)}


class InfeasibleBudgetError(NoSolutionError):
    """Raised before any evaluation if no configuration of the space meets a limit.

    Args:
        message: Message for the user.
        name: The limited quantity, with its unit.
        bound: The limit.
        smallest: The smallest value reachable with a configuration other than the base itself.
        without_adapter: The value of the base alone.
    """

    def __init__(self, message: str, *, name: str, bound: float, smallest: float, without_adapter: float) -> None:
        super().__init__(message)
        self.name = name
        self.bound = bound
        self.smallest = smallest
        self.without_adapter = without_adapter


class BudgetRepair:
    """Lowers the ranks and widths of infeasible genes in random order, by the fewest steps that order allows.

    Half of the configurations lose whole dimensions, half single steps in random dimensions: the first is better where
    the number of adapters dominates the cost, the second where ranks do. Genes of the base itself, without any adapter,
    are changed in one dimension.

    Args:
        space: Space of the genes.
        limits: Limits to meet.
        seed: Seed of the order.

    Raises:
        InfeasibleBudgetError: Not even the smallest configuration of the space meets the limits.
        InputError: The space has no adapter.
    """

    def __init__(self, space: Space, limits: Sequence[Limit], *, seed: int) -> None:
        self._space = space
        self._limits = tuple(limits)
        self._rng = np.random.default_rng(seed)
        self._smallest = _smallest_that_fits(space, self._limits)

    def __call__(self, genes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Feasible genes, none of the base itself. Shape (n, n_axes) -> (n, n_axes)."""
        repaired = genes.copy()
        n_choices = self._space.n_choices
        for row in np.flatnonzero(~self._space.changes_base(self._space.expand(genes))):
            dimension = self._rng.choice(np.flatnonzero(n_choices > 1))
            further = self._rng.integers(1, n_choices[dimension])
            repaired[row, dimension] = (repaired[row, dimension] + further) % n_choices[dimension]
        broken = np.flatnonzero(~self._feasible(repaired))
        paths = [self._way_down(repaired[row]) for row in broken]
        # Bisection: the start of a path is infeasible and its end is feasible, as is every `high` in between.
        low = np.zeros(len(paths), dtype=np.int64)
        high = np.array([len(path) for path in paths], dtype=np.int64)
        while np.any(high - low > 1):
            middle = (low + high) // 2
            stops = [
                self._after(repaired[row], path, stop) for row, path, stop in zip(broken, paths, middle, strict=True)
            ]
            fits = self._feasible(np.stack(stops)) | (high - low <= 1)
            low, high = np.where(fits, low, middle), np.where(fits & (high - low > 1), middle, high)
        for row, path, stop in zip(broken, paths, high, strict=True):
            repaired[row] = self._after(repaired[row], path, stop)
        return repaired

    def _feasible(self, genes: NDArray[np.int64]) -> NDArray[np.bool_]:
        if not len(genes):
            return np.empty(0, dtype=np.bool_)
        fits: NDArray[np.bool_] = violations(limit_costs(self._space.expand(genes), self._limits), self._limits) == 0
        return fits

    def _way_down(self, genes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Dimension to lower at each step. Shape (n_steps,)."""
        if self._rng.random() < 0.5:
            return self._rng.permutation(np.repeat(np.arange(len(genes)), genes))
        order = self._rng.permutation(len(genes))
        return np.repeat(order, genes[order])

    def _after(self, genes: NDArray[np.int64], path: NDArray[np.int64], stop: int) -> NDArray[np.int64]:
        if stop >= len(path):
            return self._smallest
        return genes - np.bincount(path[:stop], minlength=len(genes))


def _smallest_that_fits(space: Space, limits: Sequence[Limit]) -> NDArray[np.int64]:
    """Cheapest genes among the lowest ranks everywhere and every change of a single dimension of these."""
    changes = [(number, choice) for number, n in enumerate(space.n_choices.tolist()) for choice in range(1, n)]
    genes = np.zeros((len(changes) + 1, space.n_axes), dtype=np.int64)
    for row, (number, choice) in enumerate(changes):
        genes[row, number] = choice
    codes = space.expand(genes)
    changes_base = space.changes_base(codes)
    genes, codes = genes[changes_base], codes[changes_base]
    if not len(genes):
        raise InputError(f"the space {space.name!r} has no adapter at all; give some dimension a rank above 0")
    bounds = np.array([limit.bound for limit in limits])
    costs = limit_costs(codes, limits)
    use = np.nan_to_num(np.max(costs / bounds, axis=1, initial=0.0), nan=np.inf)
    best = int(np.argmin(use))
    if not violations(costs[best : best + 1], limits)[0] <= 0:
        worst = int(np.argmax(costs[best] / bounds))
        alone = limit_costs(space.base[None], limits)[0, worst]
        raise _infeasible(space, limits[worst], float(costs[best, worst]), float(alone))
    chosen: NDArray[np.int64] = genes[best]
    return chosen


def _infeasible(space: Space, limit: Limit, smallest: float, alone: float) -> InfeasibleBudgetError:
    if space.cuts_base:
        smaller = " or ".join(kind.entry or kind.key for kind in space.kinds if kind.cuts)
        advice = f"give the space smaller {smaller}, or raise the budget"
    elif alone > limit.bound:
        advice = (
            "the base is above that already: choose a faster base, a recipe with widths such as subnet, "
            "cut graphs for open ones, or a larger budget"
        )
    else:
        advice = "raise the budget, or merge the adapter into the base"
    name, _, unit = limit.cost.name.rpartition("_")
    name = name if unit in _SHOWN else limit.cost.name
    bound, reachable, base = (_amount(limit.cost.name, value) for value in (limit.bound, smallest, alone))
    return InfeasibleBudgetError(
        f"no configuration in the space {space.name!r} has {name} <= {bound}: "
        f"the smallest reachable is {reachable}, and that of the base {base}; {advice}",
        name=limit.cost.name,
        bound=limit.bound,
        smallest=smallest,
        without_adapter=alone,
    )


def _amount(name: str, value: float) -> str:
    unit, factor = _SHOWN.get(name.rpartition("_")[2], ("", 1.0))
    return f"{factor * value:.4g} {unit}" if unit else f"{value:.6g}"
