"""Suite of a search algorithm: it asks for points of a space and is told their values."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from adaptare.profiler import Space, named_space
from adaptare.search import Algorithm, Limit, search
from adaptare.testing.shapes import SHAPE

Points = NDArray[np.int64]
MakeAlgorithm = Callable[[Space, int], Algorithm]
SPACE = named_space("kinds", SHAPE)


def answer(points: Points) -> NDArray[np.float64]:
    """Two objectives: low choices are fast, high ones have a low loss."""
    total = points.sum(axis=1).astype(np.float64)
    return np.column_stack([1 / (1 + total), total])


def talk(algorithm: Algorithm, *, rounds: int, n: int) -> list[Points]:
    """Points of every round, each of which is answered."""
    asked = []
    for _ in range(rounds):
        asked.append(algorithm.ask(n))
        algorithm.tell(asked[-1], answer(asked[-1]))
    return asked


@dataclass(frozen=True)
class Power:
    """Objective: a power of the sum of all ranks and 1."""

    name: str
    exponent: float

    def __call__(self, codes: Points, /) -> NDArray[np.float64]:
        """Shape (n, n_columns) -> (n,)."""
        values: NDArray[np.float64] = (1.0 + codes.sum(axis=1)) ** self.exponent
        return values


class AlgorithmSuite:
    """Tests of a search algorithm.

    Fixture to define:
        make: Function of a `Space` and a seed that gives a new `Algorithm`, such as
            `lambda space, seed: Mine(space, seed=seed)`.
    """

    @pytest.mark.parametrize("n", [1, 3, 8, 50])
    def test_asks_for_exactly_as_many_points_as_wanted(self, make: MakeAlgorithm, n: int) -> None:
        for points in talk(make(SPACE, 0), rounds=6, n=n):
            assert points.shape == (n, SPACE.n_axes)
            assert points.dtype == np.int64

    def test_asks_only_for_choices_that_exist(self, make: MakeAlgorithm) -> None:
        for points in talk(make(SPACE, 0), rounds=12, n=8):
            assert np.all((points >= 0) & (points < SPACE.n_choices))

    def test_the_same_seed_and_answers_give_the_same_points(self, make: MakeAlgorithm) -> None:
        once, again = (talk(make(SPACE, 7), rounds=8, n=6) for _ in range(2))
        assert all(np.array_equal(a, b) for a, b in zip(once, again, strict=True))

    def test_another_seed_gives_other_points(self, make: MakeAlgorithm) -> None:
        one, other = (talk(make(SPACE, seed), rounds=8, n=6) for seed in (1, 2))
        assert any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))

    def test_leaves_the_global_random_state_alone(self, make: MakeAlgorithm) -> None:
        before = _global_state()
        talk(make(SPACE, 0), rounds=6, n=8)
        assert _global_state() == before

    def test_may_be_asked_again_before_it_is_told_anything(self, make: MakeAlgorithm) -> None:
        algorithm = make(SPACE, 0)
        assert [algorithm.ask(16).shape for _ in range(4)] == [(16, SPACE.n_axes)] * 4

    def test_may_be_told_of_points_it_did_not_ask_for(self, make: MakeAlgorithm) -> None:
        algorithm = make(SPACE, 0)
        algorithm.ask(8)
        others = SPACE.sample(5, np.random.default_rng(1))
        algorithm.tell(others, answer(others))
        assert algorithm.ask(40).shape == (40, SPACE.n_axes)

    def test_may_be_told_the_same_again_and_again(self, make: MakeAlgorithm) -> None:
        algorithm = make(SPACE, 0)
        same = np.repeat(algorithm.ask(1), 6, axis=0)
        for _ in range(4):
            algorithm.tell(same, answer(same))
        assert algorithm.ask(40).shape == (40, SPACE.n_axes)

    def test_an_answer_without_rows_is_taken(self, make: MakeAlgorithm) -> None:
        algorithm = make(SPACE, 0)
        algorithm.tell(np.empty((0, SPACE.n_axes), dtype=np.int64), np.empty((0, 2)))
        assert algorithm.ask(30).shape == (30, SPACE.n_axes)

    def test_does_not_change_what_it_is_told(self, make: MakeAlgorithm) -> None:
        algorithm = make(SPACE, 0)
        points = algorithm.ask(12)
        values = answer(points)
        copies = points.copy(), values.copy()
        algorithm.tell(points, values)
        algorithm.ask(12)
        for now, before in zip((points, values), copies, strict=True):
            np.testing.assert_array_equal(now, before)

    def test_takes_one_objective_as_well_as_three(self, make: MakeAlgorithm) -> None:
        for n_objectives in (1, 3):
            algorithm = make(SPACE, 0)
            for _ in range(5):
                points = algorithm.ask(8)
                algorithm.tell(points, np.tile(points.sum(axis=1, keepdims=True) * 1.0, n_objectives))
            assert algorithm.ask(8).shape == (8, SPACE.n_axes)

    def test_a_search_with_it_finds_a_front_within_the_limit(self, make: MakeAlgorithm) -> None:
        few, many = Power("inverse", -1.0), Power("ranks", 1.0)
        front = search(make(SPACE, 0), SPACE, [few, many], [Limit(many, 60.0)], evaluations=24, seed=0)
        assert len(front.history) == 24
        assert front.members
        assert all(member.upper[0] <= 60 for member in front.members)


def _global_state() -> tuple[bytes, int]:
    state = np.random.get_state(legacy=False)["state"]  # noqa: NPY002 (the state that must not change)
    return state["key"].tobytes(), state["pos"]
