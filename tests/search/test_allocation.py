"""Ranks that lose the least under a limit, against all configurations of small spaces."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from adaptare.profiler import ModelShape, Space
from adaptare.profiler.workloads.space_file import rank_space
from adaptare.search import Limit
from adaptare.search.algorithms.allocation import SumOfSites, allocations

Codes = NDArray[np.int64]
SHAPE = ModelShape("llama", 2, 64, 4, 2, 16, 128, 256, "{}")


class CallsAndRows:
    """A latency of calls and rows."""

    name = "seconds_s"

    def __call__(self, codes: Codes, /) -> NDArray[np.float64]:
        cost: NDArray[np.float64] = 1.0 + 3.0 * (codes > 0).sum(axis=1) + 0.5 * codes.sum(axis=1)
        return cost


@pytest.fixture
def space() -> Space:
    paths = [[site.path] for site in SHAPE.sites[:4]]
    return rank_space("four", SHAPE, paths, [[0, 1, 2, 4]] * 3 + [[0, 1, 2]])


@pytest.fixture
def loss() -> SumOfSites:
    falling = np.random.default_rng(5).random((4, 4)).cumsum(axis=1)[:, ::-1]
    return SumOfSites(np.hstack([falling, np.zeros((4, 1))]), "lost")


def everything(space: Space) -> Codes:
    return space.at(np.array(list(itertools.product(*(range(n) for n in space.n_choices)))))


@pytest.mark.parametrize("bound", [6.0, 9.0, 14.0, 100.0])
def test_nothing_as_cheap_loses_less(space: Space, loss: SumOfSites, bound: float) -> None:
    cost, every = CallsAndRows(), everything(space)
    points = allocations(space, loss, Limit(cost, bound), most=50)
    assert len(points)
    codes = space.at(points)
    assert (cost(codes) <= bound).all()
    assert (np.diff(loss(codes)) >= 0).all()
    for row in codes:
        as_cheap = every[cost(every) <= cost(row[None])[0]]
        assert loss(row[None])[0] <= loss(as_cheap).min() + 1e-12


def test_without_a_tight_limit_everything_is_kept(space: Space, loss: SumOfSites) -> None:
    points = allocations(space, loss, Limit(CallsAndRows(), 100.0), most=1)
    assert points.tolist() == [(space.highest).tolist()]


def test_a_limit_that_nothing_meets_gives_nothing(space: Space, loss: SumOfSites) -> None:
    assert allocations(space, loss, Limit(CallsAndRows(), 1.5), most=5).shape == (0, 4)


def test_a_cost_that_no_rank_lowers_gives_nothing(space: Space, loss: SumOfSites) -> None:
    class Constant(CallsAndRows):
        def __call__(self, codes: Codes, /) -> NDArray[np.float64]:
            return np.ones(len(codes))

    assert allocations(space, loss, Limit(Constant(), 2.0), most=5).shape == (0, 4)


def test_losses_of_sites_add_up(space: Space, loss: SumOfSites) -> None:
    codes = np.array([[4, 0, 1, 2], [0, 0, 0, 0]])
    assert loss(codes).tolist() == pytest.approx(
        [loss.lost[1, 0] + loss.lost[2, 1] + loss.lost[3, 2], loss.lost[:, 0].sum()]
    )
