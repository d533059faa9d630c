from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.search import Limit
from adaptare.search.budget.candidate import Candidate, evaluate, violations


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


def test_evaluates_every_row_those_beyond_a_limit_too() -> None:
    assert evaluate(CODES, [Power(1), Power(2)], [Limit(Power(1), 2.0)]) == (
        Candidate(codes=(0, 0), values=(0.0, 0.0), upper=(0.0,), feasible=True),
        Candidate(codes=(2, 0), values=(2.0, 4.0), upper=(2.0,), feasible=True),
        Candidate(codes=(2, 4), values=(6.0, 36.0), upper=(6.0,), feasible=False),
    )


def test_everything_is_feasible_without_limits() -> None:
    assert [candidate.feasible for candidate in evaluate(CODES, [Power(1)])] == [True, True, True]


def test_no_rows_make_no_candidates() -> None:
    assert evaluate(np.empty((0, 2), dtype=np.int64), [Power(1)], [Limit(Power(1), 2.0)]) == ()


def test_says_whether_there_is_an_adapter() -> None:
    assert [candidate.has_adapter for candidate in evaluate(CODES, [Power(1)])] == [False, True, True]


def test_the_violation_is_the_share_by_which_the_worst_limit_is_exceeded() -> None:
    limits = [Limit(Power(1), 2.0), Limit(Power(2), 10.0)]
    costs = np.array([[1.0, 10.0], [3.0, 9.0], [3.0, 40.0]])
    assert violations(costs, limits).tolist() == [0.0, 0.5, 3.0]


@pytest.mark.parametrize("bound", [0.0, -1.0, float("nan")])
def test_a_limit_is_above_zero(bound: float) -> None:
    with pytest.raises(InputError, match="limit on ranks_to_1 must be above zero"):
        Limit(Power(1), bound)
