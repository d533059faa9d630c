"""Budgeted search: spends a number of expensive evaluations on configurations predicted to meet the limits."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.profiler import Space
from adaptare.search.algorithms.algorithm import Algorithm
from adaptare.search.algorithms.budget_repair import BudgetRepair
from adaptare.search.algorithms.screen import AdditiveScreen
from adaptare.search.budget.candidate import Candidate, evaluate, new_rows, violations
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
    screen: AdditiveScreen | None = None,
    start: NDArray[np.int64] | None = None,
    progress: Callable[[Candidate], bool | None] = lambda candidate: None,
) -> Front:
    """Minimises the objectives under the limits.

    Limits are cheap: proposals of the algorithm are first repaired to meet them (`BudgetRepair`). Objectives are
    expensive: they are evaluated only on configurations that are feasible, carry an adapter and are new, and only
    these count.

    Args:
        algorithm: Algorithm on the same space.
        space: Space of genes and codes.
        objectives: Objectives to minimise, at least one.
        limits: Limits to meet; may be empty.
        evaluations: Configurations to evaluate. Fewer where the feasible part of the space has no more.
        seed: Seed of the repair.
        batch: Configurations proposed at once.
        screen: Selects among many proposals by earlier evaluations; without it the first proposals are taken.
        start: Genes to evaluate before the algorithm is asked, once they are repaired; it is told of them. Those beyond
            the evaluations are left out. Shape (n, n_axes).
        progress: Called with every candidate once it is evaluated; True ends the search after the batch.

    Raises:
        InfeasibleBudgetError: No configuration of the space meets the limits; nothing was evaluated.
        InputError: An argument is out of range.
    """
    for name, number in (("evaluations", evaluations), ("batch", batch), ("objectives", len(objectives))):
        if number < 1:
            raise InputError(f"{name} must be at least 1, not {number}")
    repair = BudgetRepair(space, limits, seed=seed)
    evaluated: dict[tuple[int, ...], Candidate] = {}
    waiting = space.checked_genes(np.empty((0, space.n_axes), dtype=np.int64) if start is None else start)
    idle, stopped = 0, False
    while len(evaluated) < evaluations and idle < PATIENCE and not stopped:
        n = min(batch, evaluations - len(evaluated))
        history = tuple(evaluated.values())
        asked = waiting[:n] if len(waiting) else algorithm.ask(screen.proposals(n, history) if screen else n)
        waiting, genes = waiting[n:], repair(asked)
        genes = genes[new_rows(space.expand(genes), evaluated)]
        genes = genes[screen.choose(space.expand(genes), history, n)] if screen else genes
        new = evaluate(space.expand(genes), objectives, limits)
        evaluated.update((candidate.codes, candidate) for candidate in new)
        idle = 0 if new else idle + 1
        _tell(algorithm, genes, new, limits)
        told = [progress(candidate) for candidate in new]
        stopped = any(told)
    return front_of([objective.name for objective in objectives], tuple(evaluated.values()))


def _tell(
    algorithm: Algorithm, genes: NDArray[np.int64], answers: Sequence[Candidate], limits: Sequence[Limit]
) -> None:
    """Passes the evaluations to the algorithm, except those with values that are not finite."""
    finite = [row for row, candidate in enumerate(answers) if np.all(np.isfinite(candidate.values))]
    if finite:
        values = np.array([answers[row].values for row in finite])
        costs = np.array([answers[row].upper for row in finite])
        algorithm.tell(genes[finite], values, violations(costs, limits))
