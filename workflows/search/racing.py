"""Default search: configurations shrunk in stages by Fisher information, raced with others on the same examples."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final

import numpy as np
from numpy.typing import NDArray

from adaptare.profiler import Configuration
from adaptare.search import CompletionLoss
from adaptare.search.algorithms import STAGED, module_sets, portfolio, smallest_that_fits, staged, stages_to
from adaptare.search.budget import Candidate, parts_of
from adaptare.search.training import FisherChanges, decide, race
from adaptare.workflows.search.problem import Points, Problem

GREEDY: Final = "greedy by gate gradients"
# Starts of a race beside `module_sets`.
MOST: Final = 8
NONE: Final[Mapping[str, NDArray[np.float64]]] = {}


@dataclass(frozen=True)
class Raced:
    """Configurations whose losses a search computed on all examples.

    Args:
        candidates: Finalists of the race, and the incumbents of smaller budgets.
        names: Name of each start.
        incumbents: Bound -> configuration that others have to beat there.
        evaluations: Losses that the race computed, in evaluations on all examples, rounded up; at least the number of
            starts beside `module_sets`.
    """

    candidates: tuple[Candidate, ...]
    names: dict[Configuration, str]
    incumbents: dict[float, Configuration]
    evaluations: int


def raced(
    problem: Problem,
    loss: CompletionLoss,
    changes: FisherChanges | None,
    *,
    evaluations: int,
    winners: int,
    others: Mapping[str, NDArray[np.float64]] = NONE,
) -> Raced:
    """Shrinks the largest configuration to the budget and to smaller parts of it, and races it with other starts.

    Args:
        problem: Its objective is the loss.
        loss: Loss on the validation examples.
        changes: Estimates, from training examples; `None` for adapters that exist merged only, and cost nothing.
        evaluations: Number of starts at most. Where eight others leave room, they are the first of `module_sets`.
        winners: Number of bounds.
        others: Name -> changes of the loss by another estimate, for further starts.
    """
    space, limit = problem.space, problem.limit
    bounds = parts_of(limit.bound, winners, base=_base(problem))
    points = _shrunk(problem, changes, bounds) or [smallest_that_fits(space, [limit])]
    table = None
    if changes and problem.cost(space.highest) > limit.bound:
        table = changes(space.highest)
        others = {GREEDY: changes.slopes, **others}
    most = min(evaluations, MOST)
    starts = portfolio(space, limit, points[0], changes=table, others=others, most=most, seed=problem.seed)
    names = {space.decode(space.at(point)): name for name, point in starts.items()}
    if table is not None:
        for name, row in islice(module_sets(space, limit).items(), evaluations - len(starts)):
            names.setdefault(space.decode(row), name)
    codes = problem.codes(names)
    with problem.feedback.progress(f"race of {len(codes)} configurations") as update:
        found = race(loss, codes, done=lambda share: update(share, "on growing shares of the validation examples"))
    kept = np.vstack([codes[found.left], *(space.at(point)[None] for point in points[1:])])
    candidates = problem.candidates((space.decode(row) for row in np.unique(kept, axis=0)), "finalists of the race")
    shrunk = [space.decode(space.at(point)) for point in points]
    names |= dict.fromkeys(shrunk, STAGED)
    n_evaluations = max(len(starts), math.ceil(found.evaluations))
    return Raced(tuple(candidates), names, dict(zip(bounds, shrunk, strict=False)), n_evaluations)


def settled(
    problem: Problem, loss: CompletionLoss, incumbents: Mapping[float, Configuration], candidates: tuple[Candidate, ...]
) -> list[Configuration]:
    """The incumbent at each bound, or the candidate within it that takes its place; see `decide`."""
    found = []
    for bound, incumbent in incumbents.items():
        within = dict.fromkeys(one.configuration for one in candidates if one.upper[0] <= bound)
        others = [config for config in within if config != incumbent]
        row = decide(loss, problem.space.encode(incumbent), problem.codes(others))
        found.append(incumbent if row is None else others[row])
    return list(dict.fromkeys(found))


def _base(problem: Problem) -> float:
    """Value of the base; below the base, that of the lowest choices."""
    base, space = problem.base, problem.space
    return min(base, problem.cost(0 * space.highest)) if space.cuts_base else base


def _shrunk(problem: Problem, changes: FisherChanges | None, bounds: list[float]) -> list[Points]:
    """A point for each bound that can be reached."""
    if changes is None:
        highest = problem.space.highest
        return [highest for bound in bounds if problem.cost(highest) <= bound]
    with problem.feedback.progress("shrinking by Fisher information") as update:
        estimates, expected = 0, 1 + sum(stages_to(bounds, problem.cost(0 * problem.space.highest)))

        def counted(point: Points, /) -> NDArray[np.float64]:
            nonlocal estimates
            table = changes(point)
            estimates += 1
            update(min(1.0, estimates / expected), f"{estimates} estimates")
            return table

        points = staged(problem.space, counted, problem.limit, bounds)
        update(1.0, f"{estimates} estimates")
        return points
