"""Search algorithms that keep to the contract. A new one joins by one line in `ALGORITHMS`."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from adaptare.profiler import Space
from adaptare.search import Algorithm, Nsga2, RandomSearch
from adaptare.search.algorithms.hill_climbing import HillClimbing
from adaptare.testing import AlgorithmSuite

MakeAlgorithm = Callable[[Space, int], Algorithm]


@dataclass(frozen=True)
class Case:
    name: str
    make: MakeAlgorithm


ALGORITHMS = [
    Case("random search", lambda space, seed: RandomSearch(space, seed=seed)),
    Case("NSGA-II", lambda space, seed: Nsga2(space, seed=seed)),
    Case("NSGA-II with a small population", lambda space, seed: Nsga2(space, seed=seed, population=4)),
    Case("hill climbing", lambda space, seed: HillClimbing(space, seed=seed)),
]


@pytest.fixture(params=ALGORITHMS, ids=lambda case: case.name)
def make(request: pytest.FixtureRequest) -> MakeAlgorithm:
    return request.param.make


class TestAlgorithm(AlgorithmSuite):
    """Every algorithm of the list."""
