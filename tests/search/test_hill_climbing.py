from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from adaptare.profiler import Space, named_space
from adaptare.search import Limit, search
from adaptare.search.algorithms.baselines import midpoint
from adaptare.search.algorithms.hill_climbing import HillClimbing
from adaptare.testing.algorithm import SHAPE

Points = NDArray[np.int64]
SPACE = named_space("blocks", SHAPE)
ALL = np.array(list(product(*map(range, SPACE.n_choices))))


def bowl(points: Points) -> NDArray[np.float64]:
    """One valley, at [4, 0, 3, 1]."""
    distances: NDArray[np.float64] = (np.abs(points - [4, 0, 3, 1]) * [1.0, 2.0, 0.5, 3.0]).sum(axis=1)
    return distances


def test_begins_with_the_midpoint_and_its_neighbours() -> None:
    first = HillClimbing(SPACE, seed=0).ask(9)
    assert first[0].tolist() == midpoint(SPACE).tolist() == [2, 2, 2, 2]
    assert {tuple(row) for row in np.abs(first[1:] - first[0])} == {tuple(row) for row in np.eye(4, dtype=int)}
    assert len({tuple(row) for row in first}) == 9


def test_restarts_elsewhere_when_no_neighbour_is_better() -> None:
    climb = HillClimbing(SPACE, seed=0)
    points = climb.ask(9)
    climb.tell(points, np.arange(9.0)[:, None])  # the midpoint is the best
    around = climb.ask(8)
    assert np.all(np.abs(around - points[0]).sum(axis=1) == 1)
    climb.tell(around, np.full(8, 5.0)[:, None])
    elsewhere = climb.ask(6)
    assert np.any(np.abs(elsewhere - points[0]).sum(axis=1) > 1)
    climb.tell(elsewhere, np.full(6, 70.0)[:, None])  # worse than before, and still where it goes on
    assert np.all(np.abs(climb.ask(4) - elsewhere[0]).sum(axis=1) == 1)


@pytest.mark.parametrize("seed", range(2))
def test_a_search_finds_the_only_valley_and_never_a_worse_one_than_the_midpoint(seed: int) -> None:
    few = SimpleNamespace(name="few", called=0)

    def cost(codes: Points) -> NDArray[np.float64]:
        few.called += len(codes)
        return bowl(np.stack([_points(SPACE, row) for row in codes]))

    loss = _Named("loss", cost)
    front = search(HillClimbing(SPACE, seed=seed), SPACE, [loss], [], evaluations=120, seed=seed)
    assert few.called == len(front.history) == len({one.configuration for one in front.history}) == 120
    assert front.history[0].configuration == SPACE.decode(SPACE.at(midpoint(SPACE)))
    assert front.members[0].values[0] == 0.0
    # NSGA-II and random search have the same budget; a valley is where climbing is at home.
    assert [one.values[0] for one in front.history].index(0.0) < 60


def test_a_search_stays_within_its_limit() -> None:
    ranks = _Named("ranks", lambda codes: 1.0 + codes.sum(axis=1))
    best = _Named("loss", lambda codes: -codes.sum(axis=1) * 1.0)
    front = search(HillClimbing(SPACE, seed=0), SPACE, [best], [Limit(ranks, 40.0)], evaluations=60, seed=0)
    assert all(one.upper[0] <= 40 for one in front.history)
    assert front.members[0].values[0] <= -36


class _Named(SimpleNamespace):
    def __init__(self, name: str, function: object) -> None:
        super().__init__(name=name, function=function)

    def __call__(self, codes: Points) -> NDArray[np.float64]:
        return self.function(codes)


def _points(space: Space, codes: Points) -> Points:
    first = np.cumsum([0, *(len(axis.dimensions) for axis in space.axes)])[:-1]
    return np.array([axis.choices.index(int(code)) for axis, code in zip(space.axes, codes[first], strict=True)])
