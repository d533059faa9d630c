"""A configuration with all that a search found out about it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adaptare.devices import InputError
from adaptare.search.budget.objective import Limit, Objective


@dataclass(frozen=True)
class Candidate:
    """One evaluated configuration.

    Args:
        codes: Rank of each site, 0 = no adapter there, and widths where the space has them.
        values: Of the objectives, in their order.
        upper: Of what the limits bound, in their order.
        feasible: Whether every limit is met.
    """

    codes: tuple[int, ...]
    values: tuple[float, ...]
    upper: tuple[float, ...]
    feasible: bool

    @property
    def has_adapter(self) -> bool:
        """Whether any rank is above 0; true wherever the codes have widths."""
        return any(self.codes)


def evaluate(
    codes: NDArray[np.int64], objectives: Sequence[Objective], limits: Sequence[Limit] = ()
) -> tuple[Candidate, ...]:
    """Evaluates every configuration, those beyond a limit too; what baselines are judged with.

    Args:
        codes: Shape (n, n_columns).
        objectives: What is minimised.
        limits: What must be stayed under.
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
    """What the limits bound. Shape (n, n_columns) -> (n, n_limits)."""
    return _columns(codes, [limit.cost for limit in limits])


def violations(costs: NDArray[np.float64], limits: Sequence[Limit]) -> NDArray[np.float64]:
    """How far the worst limit is exceeded, as a share of it; 0 = feasible. Shape (n, n_limits) -> (n,)."""
    bounds = np.array([limit.bound for limit in limits])
    excess: NDArray[np.float64] = np.max((costs - bounds) / bounds, axis=1, initial=0.0)
    return excess


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
