"""What every search algorithm keeps to. A new algorithm joins by one line in `ALGORITHMS`."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from adaptare.profiler import ModelShape, Space, named_space
from adaptare.search import Algorithm, Nsga2, RandomSearch

SPACE = named_space(
    "kinds",
    ModelShape.from_mapping(
        {
            "model_type": "llama",
            "num_hidden_layers": 2,
            "hidden_size": 32,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "intermediate_size": 64,
            "vocab_size": 64,
        }
    ),
)


@dataclass(frozen=True)
class Case:
    name: str
    make: Callable[[Space, int], Algorithm]


ALGORITHMS = [
    Case("random search", lambda space, seed: RandomSearch(space, seed=seed)),
    Case("NSGA-II", lambda space, seed: Nsga2(space, seed=seed)),
    Case("NSGA-II with a small population", lambda space, seed: Nsga2(space, seed=seed, population=4)),
]
MakeAlgorithm = Callable[[int], Algorithm]


@pytest.fixture(params=ALGORITHMS, ids=lambda case: case.name)
def make(request: pytest.FixtureRequest) -> MakeAlgorithm:
    return lambda seed: request.param.make(SPACE, seed)


def answer(genes: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Few choices are fast, many have a low loss; the upper half of the sums is infeasible."""
    total = genes.sum(axis=1).astype(np.float64)
    violations = np.maximum(0.0, total / (SPACE.n_dimensions * 2) - 1)
    values = np.column_stack([1 / (1 + total), total])
    return np.where(violations[:, None] > 0, np.nan, values), violations


def talk(algorithm: Algorithm, *, rounds: int, n: int) -> list[NDArray[np.int64]]:
    asked = []
    for _ in range(rounds):
        asked.append(algorithm.ask(n))
        algorithm.tell(asked[-1], *answer(asked[-1]))
    return asked


@pytest.mark.parametrize("n", [1, 3, 8, 50])
def test_asks_for_exactly_as_many_genes_as_wanted(make: MakeAlgorithm, n: int) -> None:
    for genes in talk(make(0), rounds=6, n=n):
        assert genes.shape == (n, SPACE.n_dimensions)
        assert genes.dtype == np.int64


def test_asks_only_for_choices_that_exist(make: MakeAlgorithm) -> None:
    for genes in talk(make(0), rounds=12, n=8):
        assert np.all((genes >= 0) & (genes < SPACE.n_choices))


def test_the_same_seed_and_answers_give_the_same_genes(make: MakeAlgorithm) -> None:
    once, again = (talk(make(7), rounds=8, n=6) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(once, again, strict=True))


def test_another_seed_gives_other_genes(make: MakeAlgorithm) -> None:
    one, other = (talk(make(seed), rounds=8, n=6) for seed in (1, 2))
    assert any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_leaves_the_global_random_state_alone(make: MakeAlgorithm) -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002 (the state that must not change)
    talk(make(0), rounds=6, n=8)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_may_be_asked_again_before_it_is_told_anything(make: MakeAlgorithm) -> None:
    algorithm = make(0)
    assert [algorithm.ask(16).shape for _ in range(4)] == [(16, SPACE.n_dimensions)] * 4


def test_may_be_told_of_genes_it_did_not_ask_for(make: MakeAlgorithm) -> None:
    algorithm = make(0)
    algorithm.ask(8)
    others = SPACE.sample(5, np.random.default_rng(1))
    algorithm.tell(others, *answer(others))
    assert algorithm.ask(40).shape == (40, SPACE.n_dimensions)


def test_may_be_told_the_same_again_and_again(make: MakeAlgorithm) -> None:
    algorithm = make(0)
    same = np.repeat(algorithm.ask(1), 6, axis=0)
    for _ in range(4):
        algorithm.tell(same, *answer(same))
    assert algorithm.ask(40).shape == (40, SPACE.n_dimensions)


def test_may_be_told_of_infeasible_genes_alone(make: MakeAlgorithm) -> None:
    algorithm = make(0)
    infeasible = np.broadcast_to(SPACE.n_choices - 1, (4, SPACE.n_dimensions)) - np.eye(
        4, SPACE.n_dimensions, dtype=np.int64
    )
    for _ in range(3):
        values, violations = answer(infeasible)
        assert np.all(violations > 0)
        algorithm.tell(infeasible, values, violations)
        assert algorithm.ask(20).shape == (20, SPACE.n_dimensions)


def test_an_answer_without_rows_is_taken(make: MakeAlgorithm) -> None:
    algorithm = make(0)
    algorithm.tell(np.empty((0, SPACE.n_dimensions), dtype=np.int64), np.empty((0, 2)), np.empty(0))
    assert algorithm.ask(30).shape == (30, SPACE.n_dimensions)


def test_does_not_change_what_it_is_told(make: MakeAlgorithm) -> None:
    algorithm = make(0)
    genes = algorithm.ask(12)
    values, violations = answer(genes)
    copies = genes.copy(), values.copy(), violations.copy()
    algorithm.tell(genes, values, violations)
    algorithm.ask(12)
    for now, before in zip((genes, values, violations), copies, strict=True):
        np.testing.assert_array_equal(now, before)


def test_takes_one_objective_as_well_as_three(make: MakeAlgorithm) -> None:
    for n_objectives in (1, 3):
        algorithm = make(0)
        for _ in range(5):
            genes = algorithm.ask(8)
            algorithm.tell(genes, np.tile(genes.sum(axis=1, keepdims=True) * 1.0, n_objectives), np.zeros(8))
        assert algorithm.ask(8).shape == (8, SPACE.n_dimensions)
