from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.profiler import Configuration
from adaptare.search import Front, pick_winners
from adaptare.search.budget.candidate import Candidate
from adaptare.search.budget.front import front_of, non_dominated

NAMES = ("loss_nats", "latency_s")


def candidate(*values: float, rank: int = 4) -> Candidate:
    return Candidate(Configuration.of({"model.layers.0.self_attn.q_proj": rank}), values, upper=(1.0,))


def front(*rows: tuple[float, float]) -> Front:
    return front_of(NAMES, [candidate(*row) for row in rows])


def beaten_one_by_one(values: NDArray[np.float64]) -> list[bool]:
    def beats(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
        pairs = list(zip(one, other, strict=True))
        return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)

    return [any(beats(one, other) for one in values) for other in values]


@pytest.mark.parametrize("n_objectives", [1, 2, 3])
def test_the_non_dominated_set_is_that_of_brute_force(n_objectives: int) -> None:
    values = np.random.default_rng(0).integers(0, 8, size=(60, n_objectives)).astype(np.float64)
    assert (~non_dominated(values)).tolist() == beaten_one_by_one(values)


def test_a_front_is_sorted_by_its_first_objective() -> None:
    members = front((3, 1), (1, 3), (2, 2), (3, 3)).members
    assert [one.values for one in members] == [(1, 3), (2, 2), (3, 1)]


@pytest.mark.parametrize(
    "outsider",
    [candidate(float("nan"), 0), candidate(float("-inf"), 0)],
    ids=["not a number", "infinite"],
)
def test_some_are_never_on_a_front(outsider: Candidate) -> None:
    inside = candidate(1, 1)
    assert front_of(NAMES, [outsider, inside]).members == (inside,)


def test_of_equal_values_the_first_is_kept() -> None:
    assert front_of(NAMES, [candidate(1, 1, rank=2), candidate(1, 1, rank=8)]).members == (candidate(1, 1, rank=2),)


def bounded(*points: tuple[float, float]) -> Front:
    """A front over loss and latency whose limit bounds the latency plus 0.5."""
    made = [
        replace(candidate(loss, latency, rank=row + 1), upper=(latency + 0.5,))
        for row, (loss, latency) in enumerate(points)
    ]
    return front_of(NAMES, made)


CURVE = [(1.0, 19.5), (1.5, 17.0), (2.0, 15.5), (3.0, 13.0), (5.0, 11.0)]


def test_an_empty_front_has_no_winners() -> None:
    empty = front_of(NAMES, [])
    assert empty.members == ()
    assert pick_winners(empty, 3, base=10, bound=20) == ()


@pytest.mark.parametrize(
    ("n", "losses"),
    [(1, [1.0]), (2, [1.0, 3.0]), (3, [1.0, 2.0, 5.0]), (10, [1.0, 1.5, 2.0, 3.0, 5.0])],
)
def test_winners_are_the_best_within_smaller_and_smaller_parts_of_the_budget(n: int, losses: list[float]) -> None:
    winners = pick_winners(bounded(*CURVE), n, base=10, bound=20)
    assert [winner.values[0] for winner in winners] == losses


def test_a_member_exactly_at_the_bound_can_win() -> None:
    assert len(pick_winners(bounded((1.0, 19.5)), 1, base=10, bound=20)) == 1


def test_parts_with_the_same_best_member_give_one_winner() -> None:
    assert len(pick_winners(bounded((1.0, 11.0)), 3, base=10, bound=20)) == 1


def test_winners_that_mean_nothing_cannot_be_asked_for() -> None:
    with pytest.raises(InputError, match="at least one winner must be asked for, not 0"):
        pick_winners(bounded(*CURVE), 0, base=10, bound=20)


def test_below_the_base_the_best_that_is_predicted_to_fit_is_the_only_winner() -> None:
    (winner,) = pick_winners(bounded((1.0, 8.5), (2.0, 8.0)), 3, base=10, bound=9)
    assert winner.values[0] == 1.0
