"""Budgeted search: spends a number of expensive evaluations on configurations predicted to meet the limits."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.profiler import Space
from adaptare.search.algorithms.algorithm import Algorithm
from adaptare.search.algorithms.budget_repair import BudgetRepair
from adaptare.search.budget.candidate import Candidate, candidates_of, new_rows
from adaptare.search.budget.front import Front, front_of
from adaptare.search.budget.objective import Limit, Objective

# Consecutive batches without a new configuration after which the space counts as exhausted.
PATIENCE = 50


def search(
    algorithm: Algorithm,
    space: Space,
    objectives: Sequence[Objective],
    limits: Sequence[Limit],
    *,
    evaluations: int,
    seed: int,
    batch: int = 8,
    start: NDArray[np.int64] | None = None,
    progress: Callable[[Candidate], bool | None] = lambda candidate: None,
) -> Front:
    """Minimises the objectives under the limits.

    Limits are cheap: proposals of the algorithm are first lowered to meet them, and those that were lowered are filled
    (`BudgetRepair`); with one objective all proposals are. Objectives are expensive: they are evaluated only on
    configurations that are feasible, carry an adapter and are new, and only these count.

    Args:
        algorithm: Algorithm on the same space.
        space: Space that is searched.
        objectives: Objectives to minimise, at least one.
        limits: Limits to meet; may be empty.
        evaluations: Configurations to evaluate. Fewer where the feasible (and filled) part of the space has no more.
        seed: Seed of the repair.
        batch: Configurations proposed at once.
        start: Points to repair and evaluate before the algorithm is asked; it is told of them. Those beyond the
            evaluations are left out. Shape (n, n_axes).
        progress: Called with every candidate once it is evaluated; True ends the search after the batch.

    Raises:
        InfeasibleBudgetError: No configuration of the space meets the limits; nothing was evaluated.
        InputError: An argument is out of range.
    """
    for name, number in (("evaluations", evaluations), ("batch", batch), ("objectives", len(objectives))):
        if number < 1:
            raise InputError(f"{name} must be at least 1, not {number}")
    repair = BudgetRepair(space, limits, seed=seed)
    history: dict[tuple[int, ...], Candidate] = {}
    waiting = np.empty((0, space.n_axes), dtype=np.int64) if start is None else start
    space.at(waiting)  # refuses points of another space before anything is evaluated
    idle, stopped = 0, False
    while len(history) < evaluations and idle < PATIENCE and not stopped:
        n = min(batch, evaluations - len(history))
        given, waiting = waiting[:n], waiting[n:]
        asked = given if len(given) else algorithm.ask(n)
        points = repair(asked)
        # Of several objectives one may be the limited cost, of which all smaller values are wanted too.
        wasteful = np.any(points < asked, axis=1) | (len(objectives) == 1 and not len(given))
        points[wasteful] = repair.fill(points[wasteful])
        points = points[new_rows(space.at(points), history)]
        codes = space.at(points)
        new = candidates_of(codes, space, objectives, limits)
        history.update(zip(map(tuple, codes.tolist()), new, strict=True))
        idle = 0 if new else idle + 1
        values = np.array([candidate.values for candidate in new]).reshape(-1, len(objectives))
        finite = np.isfinite(values).all(axis=1)
        if finite.any():
            algorithm.tell(points[finite], values[finite])
        stopped = any(list(map(progress, new)))
    return front_of([objective.name for objective in objectives], tuple(history.values()))
