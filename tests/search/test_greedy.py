from itertools import product

import numpy as np
from numpy.typing import NDArray

from adaptare.profiler import WIDTH, Axis, ModelShape, Space
from adaptare.profiler.workloads.space_file import rank_space
from adaptare.search import Limit
from adaptare.search.algorithms.greedy import greedy_point

SHAPE = ModelShape("llama", 2, 64, 4, 2, 16, 96, 64, "{}")
Q, K, UP = SHAPE.sites[0], SHAPE.sites[1], next(site for site in SHAPE.sites if site.kind == "up_proj")
SPACE = rank_space("three", SHAPE, [[Q.path], [K.path], [UP.path]], [[0, 2, 4], [0, 2, 4], [0, 2, 4]])
IMPORTANCE = {
    Q.path: np.array([8.0, 4.0, 1.0, 1.0]),
    K.path: np.array([3.0, 3.0, 3.0, 3.0]),
    UP.path: np.array([1.0, 1.0, 1.0, 1.0]),
}


class Cost:
    """Price of a site's adapter, and of a unit of its rank."""

    name = "cost_s"

    def __init__(self, site: float = 1.0, rank: float = 0.25, base: float = 1.0) -> None:
        self.site, self.rank, self.base = site, rank, base

    def __call__(self, codes: NDArray[np.int64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = self.base + self.site * (codes > 0).sum(axis=1) + self.rank * codes.sum(axis=1)
        return found


def ranks(bound: float, cost: Cost | None = None, space: Space = SPACE) -> list[int] | None:
    points = greedy_point(space, IMPORTANCE, Limit(cost or Cost(), bound))
    return None if points is None else space.at(points).tolist()


def test_takes_what_is_worth_most_per_cost_first() -> None:
    # Per cost: q at 2 12/1.5, k at 4 12/2, k at 2 6/1.5, q from 2 to 4 2/0.5, up at 4 4/2.
    assert ranks(1.5) is None
    assert ranks(2.5) == [2, 0, 0]
    assert ranks(3.0) == [4, 0, 0]
    assert ranks(4.5) == [2, 4, 0]
    assert ranks(5.0) == [4, 4, 0]
    assert ranks(6.5) == [4, 4, 2]
    assert ranks(100.0) == [4, 4, 4]


def test_jumps_over_ranks_where_the_first_step_is_the_dear_one() -> None:
    """With a high price of the site itself, k at 4 is worth more per cost than q at 2, though its first step is not."""
    assert ranks(6.0, Cost(site=4.0, rank=0.0)) == [4, 0, 0]
    importance = {**IMPORTANCE, Q.path: np.array([7.0, 0.0, 0.0, 0.0])}
    points = greedy_point(SPACE, importance, Limit(Cost(site=4.0, rank=0.1), 5.5))
    assert points is not None
    assert points.tolist() == [0, 2, 0]


def test_never_exceeds_the_limit_and_leaves_no_room_for_one_more_step() -> None:
    for bound in np.linspace(2.5, 8, 23):
        found = ranks(float(bound))
        assert found is not None
        assert Cost()(np.array([found]))[0] <= bound
        larger = [
            row for row in product((0, 2, 4), repeat=3) if sum(a != b for a, b in zip(row, found, strict=True)) == 1
        ]
        larger = [row for row in larger if sum(row) > sum(found)]
        assert all(Cost()(np.array([row]))[0] > bound for row in larger)


def test_a_group_counts_the_importance_of_all_its_sites() -> None:
    tied = rank_space("tied", SHAPE, [[Q.path, UP.path], [K.path]], [[0, 2], [0, 2]])
    assert ranks(4.0, space=tied) == [2, 2, 0]
    assert ranks(3.0, space=tied) == [0, 0, 2]


def test_free_ranks_are_taken_by_importance() -> None:
    assert ranks(1.0, Cost(site=0.0, rank=0.0)) == [4, 4, 4]


def test_widths_stay_those_of_the_base() -> None:
    space = Space("widths", SHAPE, (*SPACE.axes, Axis("width", (48, SHAPE.intermediate), (WIDTH(0),))))

    class OfRanks(Cost):
        def __call__(self, codes: NDArray[np.int64]) -> NDArray[np.float64]:
            return super().__call__(codes[:, :3])

    assert ranks(2.5, OfRanks(), space) == [2, 0, 0, SHAPE.intermediate]
    assert ranks(1.0, OfRanks(), space) is None
