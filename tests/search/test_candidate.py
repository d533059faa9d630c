from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.search import Limit
from adaptare.search.budget.candidate import evaluated, feasible


@dataclass(frozen=True)
class Power:
    """The sum of the ranks, raised to a power."""

    exponent: int

    @property
    def name(self) -> str:
        return f"ranks_to_{self.exponent}"

    def __call__(self, codes: NDArray[np.int64], /) -> NDArray[np.float64]:
        return codes.sum(axis=1).astype(np.float64) ** self.exponent


CODES = np.array([[0, 0], [2, 0], [2, 4]])


def test_objectives_are_columns() -> None:
    assert evaluated(CODES, [Power(1), Power(2)]).tolist() == [[0, 0], [2, 4], [6, 36]]


def test_every_limit_has_to_be_met() -> None:
    assert feasible(CODES, [Limit(Power(1), 6.0), Limit(Power(2), 10.0)]).tolist() == [True, True, False]
    assert feasible(CODES, [Limit(Power(1), 1.0), Limit(Power(2), 10.0)]).tolist() == [True, False, False]


@pytest.mark.parametrize("bound", [0.0, -1.0, float("nan")])
def test_a_limit_is_above_zero(bound: float) -> None:
    with pytest.raises(InputError, match="limit on ranks_to_1 must be above zero"):
        Limit(Power(1), bound)
