"""Configuration with its evaluation in a search."""

from collections.abc import Container, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.profiler import Configuration, Space
from adaptare.search.budget.objective import Limit, Objective


@dataclass(frozen=True)
class Candidate:
    """Evaluated configuration that meets every limit.

    Args:
        values: Values of the objectives, in their order.
        upper: Values of the limited quantities, in the order of the limits.
    """

    configuration: Configuration
    values: tuple[float, ...]
    upper: tuple[float, ...]


def candidates_of(
    codes: NDArray[np.int64], space: Space, objectives: Sequence[Objective], limits: Sequence[Limit]
) -> list[Candidate]:
    """Evaluates configurations. Shape (n, n_columns) -> n candidates."""
    values, costs = evaluated(codes, objectives).tolist(), limit_costs(codes, limits).tolist()
    rows = zip(codes, values, costs, strict=True)
    return [Candidate(space.decode(row), tuple(own), tuple(upper)) for row, own, upper in rows]


def limit_costs(codes: NDArray[np.int64], limits: Sequence[Limit]) -> NDArray[np.float64]:
    """Values of the limited quantities. Shape (n, n_columns) -> (n, n_limits)."""
    return evaluated(codes, [limit.cost for limit in limits])


def feasible(codes: NDArray[np.int64], limits: Sequence[Limit]) -> NDArray[np.bool_]:
    """True for configurations that meet every limit. Shape (n, n_columns) -> (n,)."""
    fits: NDArray[np.bool_] = np.all(limit_costs(codes, limits) <= [limit.bound for limit in limits], axis=1)
    return fits


def new_rows(codes: NDArray[np.int64], known: Container[tuple[int, ...]]) -> list[int]:
    """Indices of the rows that are not known, ascending; of equal rows the first."""
    first = {row: index for index, row in reversed(list(enumerate(map(tuple, codes.tolist()))))}
    return sorted(index for row, index in first.items() if row not in known)


def evaluated(codes: NDArray[np.int64], objectives: Sequence[Objective]) -> NDArray[np.float64]:
    """Values of objectives. Shape (n, n_columns) -> (n, n_objectives)."""
    table = np.empty((len(codes), len(objectives)))
    for column, objective in enumerate(objectives if len(codes) else ()):
        values = np.asarray(objective(codes), dtype=np.float64)
        if values.shape != (len(codes),):
            raise InputError(
                f"{objective.name} must return one value for each of {len(codes)} configurations, "
                f"not an array of shape {values.shape}"
            )
        table[:, column] = values
    return table
