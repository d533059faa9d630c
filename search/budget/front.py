"""Pareto front of the candidates, and the selection of winners."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.search.budget.candidate import Candidate


@dataclass(frozen=True)
class Front:
    """Result of a search.

    Args:
        objectives: Names of the objectives, in the order of every candidate's values.
        members: Non-dominated candidates, sorted by the first objective.
        history: Every evaluated candidate, in order of evaluation.
    """

    objectives: tuple[str, ...]
    members: tuple[Candidate, ...]
    history: tuple[Candidate, ...]


def front_of(objectives: Sequence[str], history: Sequence[Candidate]) -> Front:
    """Front of the candidates; of several with equal values the first. Excludes values that are not finite."""
    first = {one.values: one for one in reversed(history) if np.all(np.isfinite(one.values))}
    distinct = [first[values] for values in sorted(first)]
    kept = non_dominated(_values(distinct, len(objectives)))
    return Front(tuple(objectives), tuple(compress(distinct, kept)), tuple(history))


def non_dominated(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Mask of rows that no other row dominates, by being as good in all objectives and better in one.

    Args:
        values: Objectives to minimise, shape (n, n_objectives). Equal rows do not dominate each other.

    Returns:
        Shape (n,).
    """
    from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

    kept = np.zeros(len(values), dtype=np.bool_)
    if len(values):
        kept[NonDominatedSorting().do(values, only_non_dominated_front=True)] = True
    return kept


def pick_winners(front: Front, n: int, *, base: float, bound: float) -> tuple[Candidate, ...]:
    """Best members within the budget, and within successively smaller parts of it.

    A budget leaves `bound - base` for an adapter. The first winner has the lowest first objective of all members,
    the next the lowest within (n - 1) / n of that, and so on, as fallbacks in case the first turns out too close to
    the limit when measured.

    Args:
        front: Front of a search under at least one limit.
        n: Number of winners; fewer where several parts have the same best member, or none.
        base: Value of the first limited quantity without any adapter.
        bound: The first limit.

    Raises:
        InputError: n is below 1.
    """
    within = ([one for one in front.members if one.upper[0] <= end] for end in parts_of(bound, n, base=base))
    best = [min(members, key=lambda one: one.values[0]) for members in within if members]
    return tuple(dict.fromkeys(best))


def parts_of(bound: float, n: int, *, base: float) -> list[float]:
    """A bound, and (n - 1) / n, ..., 1 / n of what it leaves above a base value.

    If it leaves nothing for an adapter, there are no smaller parts. Raises `InputError` if n is below 1.
    """
    if n < 1:
        raise InputError(f"at least one winner must be asked for, not {n}")
    return [bound] + [base + (bound - base) * (n - part) / n for part in range(1, n) if bound > base]


def _values(candidates: Sequence[Candidate], n_objectives: int) -> NDArray[np.float64]:
    return np.array([one.values for one in candidates], dtype=np.float64).reshape(-1, n_objectives)
