"""Repair of infeasible configurations before their expensive evaluation."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from adaptare.core import InputError, NoSolutionError
from adaptare.core.units import displayed
from adaptare.profiler import Space
from adaptare.search.budget.candidate import feasible, limit_costs
from adaptare.search.budget.objective import Limit


class InfeasibleBudgetError(NoSolutionError):
    """Raised before any evaluation if no configuration of the space meets a limit."""


class BudgetRepair:
    """Lowers the choices of infeasible points in random order, by the fewest steps that order allows; or fills points.

    Half of the points lose whole axes, half single steps on random axes: the first is better where the number of
    adapters dominates the cost, the second where ranks do. Points of the base itself, without any adapter, are changed
    on one axis.

    Args:
        space: Space of the points.
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
        self._smallest = smallest_that_fits(space, self._limits)

    def __call__(self, points: NDArray[np.int64]) -> NDArray[np.int64]:
        """Feasible points, none of the base itself. Shape (n, n_axes) -> (n, n_axes)."""
        repaired = points.copy()
        n_choices = self._space.n_choices
        for row in np.flatnonzero(~self._space.changes_base(self._space.at(points))):
            axis = self._rng.choice(np.flatnonzero(n_choices > 1))
            repaired[row, axis] = (repaired[row, axis] + self._rng.integers(1, n_choices[axis])) % n_choices[axis]
        broken = np.flatnonzero(~self._fits(repaired))
        paths = [self._way_down(repaired[row]) for row in broken]

        def after(stops: NDArray[np.int64]) -> NDArray[np.int64]:
            rows = zip(repaired[broken], paths, stops, strict=True)
            lowered = [
                self._smallest if stop >= len(path) else point - np.bincount(path[:stop], minlength=len(point))
                for point, path, stop in rows
            ]
            return np.array(lowered, dtype=np.int64).reshape(-1, self._space.n_axes)

        repaired[broken] = after(self._last_fitting(after, [len(path) for path in paths], [0] * len(paths)))
        return repaired

    def fill(self, points: NDArray[np.int64]) -> NDArray[np.int64]:
        """Raises choices in random order until no single step fits, so that none of the budget is left over.

        Points stay as they are if the largest choices meet the limits, which do not bind then.

        Args:
            points: Feasible points, shape (n, n_axes).

        Returns:
            Shape (n, n_axes).
        """
        filled = points.copy()
        rows = np.arange(0 if self._fits(self._space.highest[None])[0] else len(points))
        while len(rows):
            steps = [self._fitting_steps(filled[row]) for row in rows]
            rows, steps = rows[[len(axes) > 0 for axes in steps]], [axes for axes in steps if len(axes)]
            left = self._space.highest - filled[rows]
            paths = [self._rng.permutation(np.repeat(axes, own[axes])) for axes, own in zip(steps, left, strict=True)]
            after = partial(_raised, filled[rows], paths)
            filled[rows] = after(self._last_fitting(after, [0] * len(paths), [len(path) + 1 for path in paths]))
        return filled

    def _fitting_steps(self, point: NDArray[np.int64]) -> NDArray[np.int64]:
        """Axes of which one step up fits. Shape (n,)."""
        axes = np.flatnonzero(point < self._space.highest)
        raised = np.repeat(point[None], len(axes), axis=0)
        raised[np.arange(len(axes)), axes] += 1
        return axes[self._fits(raised)]

    def _last_fitting(
        self, after: Callable[[NDArray[np.int64]], NDArray[np.int64]], good: Sequence[int], bad: Sequence[int]
    ) -> NDArray[np.int64]:
        """Stops that fit next to others that do not, by bisection of paths between these ends. Shape (n_paths,)."""
        fitting, exceeding = np.array(good, dtype=np.int64), np.array(bad, dtype=np.int64)
        while np.any(apart := np.abs(fitting - exceeding) > 1):
            middle = np.where(apart, (fitting + exceeding) // 2, fitting)
            fits = self._fits(after(middle))
            fitting, exceeding = np.where(fits, middle, fitting), np.where(fits, exceeding, middle)
        return fitting

    def _fits(self, points: NDArray[np.int64]) -> NDArray[np.bool_]:
        codes = self._space.at(points)
        return feasible(codes, self._limits) & self._space.changes_base(codes)

    def _way_down(self, points: NDArray[np.int64]) -> NDArray[np.int64]:
        """Axis to lower at each step. Shape (n_steps,)."""
        if self._rng.random() < 0.5:
            return self._rng.permutation(np.repeat(np.arange(len(points)), points))
        order = self._rng.permutation(len(points))
        return np.repeat(order, points[order])


def _raised(
    points: NDArray[np.int64], paths: Sequence[NDArray[np.int64]], stops: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Points after the first steps of their paths, each of one choice up. Shapes (n, n_axes), n paths, (n,)."""
    steps = [np.bincount(path[:stop], minlength=points.shape[1]) for path, stop in zip(paths, stops, strict=True)]
    return points + np.array(steps, dtype=np.int64).reshape(points.shape)


def smallest_that_fits(space: Space, limits: Sequence[Limit]) -> NDArray[np.int64]:
    """Cheapest point among the lowest choices everywhere and every change of one axis of these. Shape (n_axes,).

    Raises:
        InfeasibleBudgetError: It does not meet the limits either.
        InputError: The space has no adapter.
    """
    changes = [(axis, choice) for axis, n in enumerate(space.n_choices.tolist()) for choice in range(1, n)]
    points = np.zeros((len(changes) + 1, space.n_axes), dtype=np.int64)
    for row, (axis, choice) in enumerate(changes):
        points[row, axis] = choice
    points = points[space.changes_base(space.at(points))]
    if not len(points):
        raise InputError(f"the space {space.name!r} has no adapter at all; give some dimension a rank above 0")
    use = limit_costs(space.at(points), limits) / [limit.bound for limit in limits]
    best = int(np.argmin(np.nan_to_num(use.max(axis=1, initial=0.0), nan=np.inf)))
    if limits and not use[best].max() <= 1:
        raise _infeasible(space, limits[int(np.argmax(use[best]))], points[best])
    chosen: NDArray[np.int64] = points[best]
    return chosen


def _infeasible(space: Space, limit: Limit, point: NDArray[np.int64]) -> InfeasibleBudgetError:
    smallest, alone = limit.cost(np.stack([space.at(point), space.base])).tolist()
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
    cost = "a predicted upper end" if name == "predicted_upper" else name or unit
    shown, text = displayed(unit)
    bound, reachable, base = (f"{text(value)} {shown}" for value in (limit.bound, smallest, alone))
    return InfeasibleBudgetError(
        f"no configuration in the space {space.name!r} has {cost} <= {bound}: "
        f"the smallest reachable is {reachable}, and that of the base {base}; {advice}"
    )
