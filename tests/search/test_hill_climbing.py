from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from adaptare.profiler import Space, named_space
from adaptare.search import Limit, RandomSearch, search
from adaptare.search.algorithms.algorithm import algorithm_named, may_be_screened
from adaptare.search.algorithms.baselines import midpoint
from adaptare.search.algorithms.hill_climbing import HillClimbing
from adaptare.testing.algorithm import SHAPE

Genes = NDArray[np.int64]
SPACE = named_space("blocks", SHAPE)
ALL = np.array(list(product(*map(range, SPACE.n_choices))))


def told(climb: HillClimbing, genes: Genes, values: NDArray[np.float64], violations: NDArray[np.float64]) -> None:
    climb.tell(genes, np.where(violations > 0, np.nan, values)[:, None], violations)


def bowl(genes: Genes) -> NDArray[np.float64]:
    """One valley, at [4, 0, 3, 1]."""
    distances: NDArray[np.float64] = (np.abs(genes - [4, 0, 3, 1]) * [1.0, 2.0, 0.5, 3.0]).sum(axis=1)
    return distances


def test_begins_with_the_midpoint_and_its_neighbours() -> None:
    first = HillClimbing(SPACE, seed=0).ask(9)
    assert first[0].tolist() == midpoint(SPACE).tolist() == [2, 2, 2, 2]
    assert {tuple(row) for row in np.abs(first[1:] - first[0])} == {tuple(row) for row in np.eye(4, dtype=int)}
    assert len({tuple(row) for row in first}) == 9


def test_with_all_neighbours_at_once_it_is_steepest_ascent() -> None:
    """Each answer goes one step along the dimension that gains most, until none does."""
    climb, path = HillClimbing(SPACE, seed=3), []
    for _ in range(8):
        genes = climb.ask(9)
        told(climb, genes, bowl(genes), np.zeros(9))
        path.append(climb._worth[1])
    here, steepest = midpoint(SPACE), []
    for _ in range(8):
        around = ALL[np.abs(ALL - here).sum(axis=1) <= 1]
        here = around[np.argmin(bowl(around))]
        steepest.append(float(bowl(here[None])[0]))
    reached = path.index(0.0)
    assert path[: reached + 1] == steepest[: reached + 1]
    assert reached < 8


def test_does_not_propose_a_neighbour_twice_from_one_place() -> None:
    climb = HillClimbing(SPACE, seed=0)
    asked = np.concatenate([climb.ask(3) for _ in range(3)])
    assert len({tuple(row) for row in asked}) == 9


def test_restarts_elsewhere_when_no_neighbour_is_better() -> None:
    climb = HillClimbing(SPACE, seed=0)
    genes = climb.ask(9)
    told(climb, genes, np.arange(9.0), np.zeros(9))  # the midpoint is the best
    around = climb.ask(8)
    assert np.all(np.abs(around - genes[0]).sum(axis=1) == 1)
    told(climb, around, np.full(8, 5.0), np.zeros(8))
    elsewhere = climb.ask(6)
    assert np.any(np.abs(elsewhere - genes[0]).sum(axis=1) > 1)
    told(climb, elsewhere, np.full(6, 70.0), np.zeros(6))  # worse than before, and still where it goes on
    assert np.all(np.abs(climb.ask(4) - elsewhere[0]).sum(axis=1) == 1)


def test_leaves_what_is_infeasible_by_the_smallest_violation() -> None:
    """A feasible configuration beats every infeasible one, at any value."""
    climb = HillClimbing(SPACE, seed=0)
    genes = climb.ask(9)
    violations = np.linspace(2, 1, 9)
    told(climb, genes, np.zeros(9), violations)
    assert climb._worth == (1.0, 0.0)
    near = climb.ask(2)
    assert np.all(np.abs(near - genes[-1]).sum(axis=1) == 1)
    told(climb, near, np.array([100.0, 0.0]), np.array([0.0, 0.5]))
    assert climb._worth == (0.0, 100.0)


@pytest.mark.parametrize("seed", range(5))
def test_a_search_finds_the_only_valley_and_never_a_worse_one_than_the_midpoint(seed: int) -> None:
    few = SimpleNamespace(name="few", called=0)

    def cost(codes: Genes) -> NDArray[np.float64]:
        few.called += len(codes)
        return bowl(np.stack([_genes(SPACE, row) for row in codes]))

    loss = _Named("loss", cost)
    front = search(HillClimbing(SPACE, seed=seed), SPACE, [loss], [], evaluations=120, seed=seed)
    assert few.called == len(front.history) == len({one.codes for one in front.history}) == 120
    assert front.history[0].codes == tuple(SPACE.expand(midpoint(SPACE)[None])[0])
    assert front.members[0].values[0] == 0.0
    # NSGA-II and random search have the same budget; a valley is where climbing is at home.
    assert [one.values[0] for one in front.history].index(0.0) < 60


def test_a_search_stays_within_its_limit() -> None:
    ranks = _Named("ranks", lambda codes: 1.0 + codes.sum(axis=1))
    best = _Named("loss", lambda codes: -codes.sum(axis=1) * 1.0)
    front = search(HillClimbing(SPACE, seed=0), SPACE, [best], [Limit(ranks, 40.0)], evaluations=60, seed=0)
    assert all(one.upper[0] <= 40 for one in front.history)
    assert front.members[0].values[0] <= -36


def test_it_gets_an_answer_to_every_proposal() -> None:
    assert not may_be_screened(HillClimbing(SPACE, seed=0))
    assert may_be_screened(RandomSearch(SPACE, seed=0))


def test_it_is_found_by_name() -> None:
    assert algorithm_named("hill-climbing") is HillClimbing


class _Named(SimpleNamespace):
    def __init__(self, name: str, function: object) -> None:
        super().__init__(name=name, function=function)

    def __call__(self, codes: Genes) -> NDArray[np.float64]:
        return self.function(codes)


def _genes(space: Space, codes: Genes) -> Genes:
    first = np.cumsum([0, *(len(axis.dimensions) for axis in space.axes)])[:-1]
    return np.array([axis.choices.index(int(code)) for axis, code in zip(space.axes, codes[first], strict=True)])
