"""Configurations by estimated loss per predicted cost: lowered in stages from the largest, and filled again."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from adaptare.profiler import Space
from adaptare.search.budget.objective import Limit

Points = NDArray[np.int64]
Table = NDArray[np.float64]
# Change of the loss per change of the cost, order among equal ones, axis, choice.
Step = tuple[float, int, int, int]
STAGES = 8
# Smallest part of the cost above that of the lowest choices which a stage leaves, from one bound to the next.
PART: Final = 0.8
# Cost below which a choice counts as free, relative to the limit, so that its gain decides.
FREE = 1e-9


class LossChanges(Protocol):
    """Estimates how the loss changes with each choice of each axis, all others as they are."""

    def __call__(self, point: Points, /) -> Table:
        """Changes of the loss, in any one unit.

        Shape (n_axes,) -> (n_axes, largest number of choices): 0 at the present choices, positive where the loss grows,
        NaN beyond the last choice of an axis, and for axes that are to stay as they are.
        """
        ...


def staged(
    space: Space,
    changes: LossChanges,
    limit: Limit,
    bounds: Sequence[float],
    *,
    start: Points | None = None,
    stages: int = STAGES,
) -> list[Points]:
    """Shrinks a configuration to each of some bounds, with changes estimated anew at each stage.

    The first bound is reached in stages of equal ratios of the cost above that of the lowest choices. In each, choices
    with the smallest increase of the loss per saved cost are lowered first. At a bound, choices that lower the loss are
    raised as long as one fits, those with the largest decrease per added cost first. The next bound is reached from
    what was lowered, in stages that leave at least 0.8 of that cost.

    Args:
        space: Search space.
        changes: Estimates of the changes of the loss.
        limit: The limited cost.
        bounds: Values of the cost to reach, descending.
        start: The configuration; default: the largest. Shape (n_axes,).
        stages: Stages until the first bound.

    Returns:
        A point for each bound, shape (n_axes,). There are fewer if no lower choice saves cost any more, or nothing but
        the base is left.
    """
    point, table = space.highest if start is None else start, None
    found: list[Points] = []
    floor = _cost(space, limit, 0 * point)
    for bound, n in zip(bounds, stages_to(bounds, floor, first=stages), strict=True):
        above, wanted = _cost(space, limit, point) - floor, bound - floor
        ratios = np.geomspace(1, wanted / above, n + 1)[1:-1] if 0 < wanted < above else np.empty(0)
        for end in (*(floor + above * ratios).tolist(), bound):
            if _cost(space, limit, point) <= end:
                continue
            lower = lowered(space, point, changes(point) if table is None else table, limit, end)
            if lower is None:
                return found
            point, table = lower, changes(lower)
        if table is None and not np.array_equal(point, space.highest):
            table = changes(point)
        full = point if table is None else filled(space, point, table, limit, bound)
        if not space.changes_base(space.at(full)):
            return found
        found.append(full)
    return found


def stages_to(bounds: Sequence[float], floor: float, *, first: int = STAGES) -> list[int]:
    """Number of stages in which `staged` reaches each bound, never more than until the first.

    Args:
        bounds: Values of the cost, descending.
        floor: Cost of the lowest choices.
        first: Stages until the first bound.
    """
    parts = [(lower - floor) / (upper - floor) if lower > floor else 1.0 for upper, lower in pairwise(bounds)]
    return [first, *(min(first, max(1, math.ceil(math.log(part) / math.log(PART)))) for part in parts)]


def lowered(space: Space, point: Points, changes: Table, limit: Limit, bound: float) -> Points | None:
    """Lowers choices until the cost is within a bound, those with the least increase of the loss per saved cost first.

    Args:
        space: Search space.
        point: Shape (n_axes,).
        changes: Changes of the loss; only differences between choices of an axis count.
        limit: The limited cost.
        bound: Its largest value.

    Returns:
        Shape (n_axes,), or `None` if no lower choice saves cost any more.
    """
    while (cost := _cost(space, limit, point)) > bound:
        steps = _steps(point, changes, _single_costs(space, point, changes, limit), down=True)
        spare = partial(_spare, space, point, steps, limit, bound)
        lower = _after(point, steps[: 1 + bisect_left(range(1, len(steps)), 0.0, key=spare)])
        if not _cost(space, limit, lower) < cost:
            return None
        point = lower
    return point


def filled(space: Space, point: Points, changes: Table, limit: Limit, bound: float) -> Points:
    """Raises choices that lower the loss as long as one fits, those with the largest decrease per added cost first.

    Args:
        space: Search space.
        point: Shape (n_axes,).
        changes: Changes of the loss; only differences between choices of an axis count.
        limit: The limited cost.
        bound: Its largest value.

    Returns:
        Shape (n_axes,); no choice with a decrease of the loss fits any more.
    """
    while True:
        costs = _single_costs(space, point, changes, limit)
        steps = _steps(point, changes, np.where(costs <= bound, costs, np.nan), down=False)
        if not steps:
            return point
        # The first step fits alone. Numbers of steps that fit come last in descending order.
        spare = partial(_spare, space, point, steps, limit, bound)
        descending = range(len(steps), 1, -1)
        point = _after(point, steps[: len(steps) - bisect_left(descending, 0.0, key=spare)])


def _cost(space: Space, limit: Limit, point: Points) -> float:
    return float(limit.cost(space.at(point)[None])[0])


def _spare(space: Space, point: Points, steps: Sequence[Step], limit: Limit, bound: float, n: int) -> float:
    """Bound minus the cost after the first n steps."""
    return bound - _cost(space, limit, _after(point, steps[:n]))


def _after(point: Points, steps: Sequence[Step]) -> Points:
    after = point.copy()
    for _, _, axis, choice in steps:
        after[axis] = choice
    return after


def _single_costs(space: Space, point: Points, changes: Table, limit: Limit) -> Table:
    """Cost with one axis at another choice, where its change of the loss is known. Shape of `changes`."""
    costs = np.full(changes.shape, np.nan)
    numbers, choices = np.nonzero(np.isfinite(changes))
    rows = np.repeat(point[None], len(numbers), axis=0)
    rows[np.arange(len(numbers)), numbers] = choices
    costs[numbers, choices] = limit.cost(space.at(rows))
    return costs


def _steps(point: Points, changes: Table, costs: Table, *, down: bool) -> list[Step]:
    """Steps of all axes up or down, by their change of the loss per change of the cost, the smallest first."""
    free = FREE * float(np.nanmax(costs, initial=0.0))
    steps: list[Step] = []
    for axis, present in enumerate(point.tolist()):
        way = range(present - 1, -1, -1) if down else range(present + 1, changes.shape[1])
        left = [choice for choice in way if np.isfinite(costs[axis, choice])]
        if down:  # one that saves less than a choice above it would only be in its way
            cheapest = np.minimum.accumulate(costs[axis, [present, *left]])
            left = [choice for choice, before in zip(left, cheapest[:-1], strict=True) if costs[axis, choice] < before]
        ratio, here = -np.inf, present
        while left:
            loss, cost = changes[axis, left] - changes[axis, here], costs[axis, left] - costs[axis, here]
            useful = cost < 0 if down else loss < 0
            ratios = np.where(useful, loss / np.maximum(np.abs(cost), free), np.inf)
            best = int(np.argmin(ratios))
            if not useful[best]:
                break
            ratio, here = max(ratio, float(ratios[best])), left[best]
            steps.append((ratio, len(steps), axis, here))
            left = left[best + 1 :]
    return sorted(steps)
