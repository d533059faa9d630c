"""Costs and gains of the adapters of the first winner."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from adaptare.predictor import FittedPredictor
from adaptare.profiler import Configuration, Space
from adaptare.profiler.workloads import IN_WEIGHTS
from adaptare.search.training import FisherChanges
from adaptare.workflows.search.problem import Points, Problem, ValueOfBase
from adaptare.workflows.search.result import Contribution, SearchResult


def with_contributions(result: SearchResult, problem: Problem, changes: FisherChanges | None) -> SearchResult:
    """The result with the costs and gains of its first winner's adapters, under each budget.

    Args:
        result: Result of the problem.
        problem: Its costs are in the order of the result's budgets.
        changes: Estimates of the changes of the loss, from training examples; `None` if there are no gates.
    """
    space, winner = problem.space, result.winners[0].configuration
    if changes is None or space.cuts_base or problem.mode in IN_WEIGHTS:
        return result
    if (point := _point(space, winner)) is None:  # as a baseline, or what begins with kinds of linears, may be
        space = space.untied
        if (point := _point(space, winner)) is None:
            return result
        changes = replace(changes, space=space)
    adapted = np.flatnonzero([point[number] > 0 and axis.choices[0] == 0 for number, axis in enumerate(space.axes)])
    if not len(adapted):
        return result
    with problem.feedback.progress("gains of the first winner") as update:
        update(0.0, "by gradients of gates")
        table = changes(point)
    gains = table[:, 0] / sum(example.completion_tokens for example in changes.examples)
    first, *further = (
        replace(each, contributions=_contributions(space, point, adapted, gains, cost.predictor))
        for each, cost in zip(result.under_each, problem.costs, strict=True)
    )
    return replace(first, further=tuple(further))


def _contributions(
    space: Space,
    point: Points,
    adapted: NDArray[np.int64],
    gains: NDArray[np.float64],
    predictor: FittedPredictor | ValueOfBase,
) -> tuple[Contribution, ...]:
    points = np.repeat(point[None], 1 + len(adapted), axis=0)
    points[np.arange(1, len(points)), adapted] = 0
    with_all, *without = predictor.predict(space.at(points), space.dimensions).mean.tolist()
    return tuple(
        Contribution(tuple(str(each.place) for each in space.axes[number].dimensions), with_all - lower, gain)
        for number, lower, gain in zip(adapted, without, gains[adapted].tolist(), strict=True)
    )


def _point(space: Space, configuration: Configuration) -> Points | None:
    """The point of a configuration, shape (n_axes,), or `None` if it is none."""
    given = dict(configuration.values)
    values = [given.get(axis.dimensions[0], 0) for axis in space.axes]
    if any(value not in axis.choices for axis, value in zip(space.axes, values, strict=True)):
        return None
    point = np.array([axis.choices.index(value) for axis, value in zip(space.axes, values, strict=True)])
    return point if np.array_equal(space.at(point), space.encode(configuration)) else None
