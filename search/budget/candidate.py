"""Configuration with its evaluation in a search."""

from collections.abc import Container, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.search.budget.objective import Limit, Objective


@dataclass(frozen=True)
class Candidate:
    """Evaluated configuration.

    Args:
        codes: Rank of each site (linear that may carry an adapter), 0 = no adapter, and widths if the space has them.
        values: Values of the objectives, in their order.
        upper: Values of the limited quantities, in the order of the limits.
        feasible: True if every limit is met.
    """

    codes: tuple[int, ...]
    values: tuple[float, ...]
    upper: tuple[float, ...]
    feasible: bool

    @property
    def has_adapter(self) -> bool:
        """True if any rank is above 0; always true where the codes have widths."""
        return any(self.codes)


def evaluate(
    codes: NDArray[np.int64], objectives: Sequence[Objective], limits: Sequence[Limit] = ()
) -> tuple[Candidate, ...]:
    """Evaluates every configuration, including infeasible ones; used for baselines.

    Args:
        codes: Shape (n, n_columns).
        objectives: Objectives to minimise.
        limits: Upper limits.
    """
    if not len(codes):
        return ()
    costs = limit_costs(codes, limits)
    excess = violations(costs, limits)
    values = _columns(codes, objectives)
    return tuple(
        Candidate(
            codes=tuple(int(rank) for rank in codes[row]),
            values=tuple(float(value) for value in values[row]),
            upper=tuple(float(cost) for cost in costs[row]),
            feasible=bool(excess[row] == 0),
        )
        for row in range(len(codes))
    )


def limit_costs(codes: NDArray[np.int64], limits: Sequence[Limit]) -> NDArray[np.float64]:
    """Values of the limited quantities. Shape (n, n_columns) -> (n, n_limits)."""
    return _columns(codes, [limit.cost for limit in limits])


def violations(costs: NDArray[np.float64], limits: Sequence[Limit]) -> NDArray[np.float64]:
    """Excess over the worst limit, as a share of it; 0 = feasible. Shape (n, n_limits) -> (n,)."""
    bounds = np.array([limit.bound for limit in limits])
    excess: NDArray[np.float64] = np.max((costs - bounds) / bounds, axis=1, initial=0.0)
    return excess


def new_rows(codes: NDArray[np.int64], known: Container[tuple[int, ...]]) -> list[int]:
    """Indices of the rows that are not known, ascending; of equal rows the first."""
    first = {row: index for index, row in reversed(list(enumerate(map(tuple, codes.tolist()))))}
    return sorted(index for row, index in first.items() if row not in known)


def _columns(codes: NDArray[np.int64], functions: Sequence[Objective]) -> NDArray[np.float64]:
    table = np.empty((len(codes), len(functions)))
    for column, function in enumerate(functions):
        values = np.asarray(function(codes), dtype=np.float64)
        if values.shape != (len(codes),):
            raise InputError(
                f"{function.name} must return one value for each of {len(codes)} configurations, "
                f"not an array of shape {values.shape}"
            )
        table[:, column] = values
    return table
