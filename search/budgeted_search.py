"""The search itself: spends a number of expensive evaluations on configurations that are predicted to fit."""

from collections.abc import Callable, Container, Sequence

import numpy as np
from numpy.typing import NDArray

from adaptare.devices import InputError
from adaptare.profiler import Space
from adaptare.search.algorithms.algorithm import Algorithm
from adaptare.search.algorithms.budget_repair import BudgetRepair
from adaptare.search.algorithms.screen import Screen
from adaptare.search.budget.candidate import Candidate, evaluate, violations
from adaptare.search.budget.front import Front, front_of
from adaptare.search.budget.objective import Limit, Objective

# Batches in a row that bring nothing new before the space counts as exhausted.
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
    screen: Screen | None = None,
    progress: Callable[[Candidate], None] = lambda candidate: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Front:
    """Minimises the objectives under the limits.

    Limits are free: what the algorithm proposes is first brought under them (`BudgetRepair`). Objectives are
    expensive: they are evaluated on configurations that are feasible, carry an adapter and are new, and only
    these count.

    Args:
        algorithm: Of the same space.
        space: Of genes and codes.
        objectives: What is minimised, at least one.
        limits: What must be met; none is allowed.
        evaluations: Configurations to evaluate. Fewer where the feasible part of the space has no more.
        seed: Of the repair.
        batch: Configurations proposed at once.
        screen: Chooses among many proposals by what was found so far; without it the algorithm's first are taken.
        progress: Called with every candidate once it is evaluated.
        should_stop: Asked before every batch; what was evaluated until then is returned.

    Raises:
        InfeasibleBudgetError: No adapter of the space meets the limits; nothing was evaluated.
        InputError: An argument is out of range.
    """
    for name, number in (("evaluations", evaluations), ("batch", batch), ("objectives", len(objectives))):
        if number < 1:
            raise InputError(f"{name} must be at least 1, not {number}")
    repair = BudgetRepair(space, limits, seed=seed)
    found: dict[tuple[int, ...], Candidate] = {}
    idle = 0
    while len(found) < evaluations and idle < PATIENCE and not should_stop():
        n = min(batch, evaluations - len(found))
        history = tuple(found.values())
        genes = repair(algorithm.ask(screen.proposals(n, history) if screen else n))
        genes = genes[_new_rows(space.expand(genes), found)]
        genes = genes[screen.choose(space.expand(genes), history, n)] if screen else genes
        new = evaluate(space.expand(genes), objectives, limits)
        found.update((candidate.codes, candidate) for candidate in new)
        idle = 0 if new else idle + 1
        _tell(algorithm, genes, new, limits)
        for candidate in new:
            progress(candidate)
    return front_of([objective.name for objective in objectives], tuple(found.values()))


def _new_rows(codes: NDArray[np.int64], found: Container[tuple[int, ...]]) -> list[int]:
    first = {row: index for index, row in reversed(list(enumerate(map(tuple, codes.tolist()))))}
    return sorted(index for row, index in first.items() if row not in found)


def _tell(
    algorithm: Algorithm, genes: NDArray[np.int64], answers: Sequence[Candidate], limits: Sequence[Limit]
) -> None:
    """Tells what came out, except values that are no numbers."""
    told = [row for row, candidate in enumerate(answers) if np.all(np.isfinite(candidate.values))]
    if told:
        values = np.array([answers[row].values for row in told])
        costs = np.array([answers[row].upper for row in told])
        algorithm.tell(genes[told], values, violations(costs, limits))
