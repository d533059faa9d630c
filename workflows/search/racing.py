"""Default search: configurations shrunk in stages by Fisher information, raced with others on the same examples."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

import numpy as np
from numpy.typing import NDArray

from adaptare.profiler import Configuration
from adaptare.search import CompletionLoss
from adaptare.search.algorithms import (
    STAGED,
    in_all_layers,
    module_sets,
    portfolio,
    smallest_that_fits,
    staged,
    stages_to,
)
from adaptare.search.budget import Candidate, parts_of
from adaptare.search.training import FisherChanges, decide, race
from adaptare.workflows.search.problem import Points, Problem

GREEDY: Final = "greedy by gate gradients"
# Starts of a race beside `module_sets`, and evaluations for each set whose kinds are shrunk.
MOST: Final = 8
PER_SET: Final = 40
NONE: Final[Mapping[str, NDArray[np.float64]]] = {}


@dataclass(frozen=True)
class Raced:
    """Configurations whose losses a search computed on all examples.

    Args:
        candidates: Finalists of the race, what was shrunk from the best sets of kinds, and the incumbents of smaller
            budgets.
        names: Name of each start, and of what was shrunk.
        incumbents: Bound -> configuration that others have to beat there.
        evaluations: Losses of the race and of what its sets shrank to, in evaluations on all examples, rounded up; at
            least the number of starts beside `module_sets`.
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

    Estimates at the largest configuration may misjudge kinds of linears, and losses show that. So the kinds of the best
    `module_sets` that are left are shrunk from all layers in the same way, each linear on its own.

    Args:
        problem: Its objective is the loss.
        loss: Loss on the validation examples.
        changes: Estimates, from training examples; `None` for adapters that exist merged only, and cost nothing.
        evaluations: Number of starts at most. Where eight others leave room, they are the first of `module_sets`. For
            each 40 of them, or the rest, the kinds of one set are shrunk.
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
    sets = module_sets(space, limit) if table is not None else {}
    joined = {space.decode(row): name for name, row in islice(sets.items(), evaluations - len(starts))}
    names |= {config: name for config, name in joined.items() if config not in names}
    codes = problem.codes(names)
    with problem.feedback.progress(f"race of {len(codes)} configurations") as update:
        found = race(loss, codes, done=lambda share: update(share, "on growing shares of the validation examples"))
    finalists = [space.decode(row) for row in codes[found.left]]
    best = [config for config in finalists if config in joined][: math.ceil(evaluations / PER_SET)]
    within = _shrunk_within(problem, changes, bounds, problem.codes(best)) if changes else {}
    shrunk = [space.decode(space.at(point)) for point in points]
    candidates = problem.candidates(dict.fromkeys([*finalists, *shrunk, *within]), "finalists of the race")
    names = {**within, **names, **dict.fromkeys(shrunk, STAGED)}
    n_evaluations = max(len(starts), math.ceil(found.evaluations) + len(within.keys() - {*finalists}))
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


def _shrunk_within(
    problem: Problem, changes: FisherChanges, bounds: list[float], sets: NDArray[np.int64]
) -> dict[Configuration, str]:
    """Configurations that the kinds of some sets shrink to at each bound, with their names."""
    space, found = problem.space.untied, dict[Configuration, str]()
    for kinds, start in (in_all_layers(space, codes) for codes in sets):
        points = _shrunk(problem, replace(changes, space=space), bounds, start=start, of=f" of {kinds}")
        found = dict.fromkeys((space.decode(space.at(point)) for point in points), f"{STAGED} of {kinds}") | found
    return found


def _shrunk(
    problem: Problem, changes: FisherChanges | None, bounds: list[float], *, start: Points | None = None, of: str = ""
) -> list[Points]:
    """A point of the space of the changes for each bound that can be reached, from the largest or another start."""
    if changes is None:
        highest = problem.space.highest
        return [highest for bound in bounds if problem.cost(highest) <= bound]
    with problem.feedback.progress(f"shrinking{of} by Fisher information") as update:
        estimates, expected = 0, 1 + sum(stages_to(bounds, problem.cost(0 * problem.space.highest)))

        def counted(point: Points, /) -> NDArray[np.float64]:
            nonlocal estimates
            table = changes(point)
            estimates += 1
            update(min(1.0, estimates / expected), f"{estimates} estimates")
            return table

        points = staged(changes.space, counted, problem.limit, bounds, start=start)
        update(1.0, f"{estimates} estimates")
        return points
