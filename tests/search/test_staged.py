from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from adaptare.profiler import WIDTH, Axis, ModelShape, Space
from adaptare.profiler.workloads.space_file import rank_space
from adaptare.search import Limit
from adaptare.search.algorithms import by_estimate, filled, lowered, staged, stages_to

SHAPE = ModelShape("llama", 2, 64, 4, 2, 16, 96, 64, "{}")
Q, K, UP = SHAPE.sites[0], SHAPE.sites[1], next(site for site in SHAPE.sites if site.kind == "up_proj")
SPACE = rank_space("three", SHAPE, [[Q.path], [K.path], [UP.path]], [[0, 2, 4], [0, 2, 4], [0, 2, 4]])
IMPORTANCE = {
    Q.path: np.array([8.0, 4.0, 1.0, 1.0]),
    K.path: np.array([3.0, 3.0, 3.0, 3.0]),
    UP.path: np.array([1.0, 1.0, 1.0, 1.0]),
}


def table(space: Space, importance: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """Changes of a loss that is minus the importance of all components that are kept."""
    changes = np.full((space.n_axes, int(space.n_choices.max())), np.nan)
    for number, axis in enumerate(space.axes):
        if not axis.kind.cuts:
            kept = [[importance[each.place][:rank].sum() for rank in axis.choices] for each in axis.dimensions]
            changes[number, : len(axis.choices)] = -np.sum(kept, axis=0)
    return changes


class Cost:
    """Price of a site's adapter, and of a unit of its rank."""

    name = "cost_s"

    def __init__(self, site: float = 1.0, rank: float = 0.25, base: float = 1.0) -> None:
        self.site, self.rank, self.base = site, rank, base

    def __call__(self, codes: NDArray[np.int64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = self.base + self.site * (codes > 0).sum(axis=1) + self.rank * codes.sum(axis=1)
        return found


def ranks(bound: float, cost: Cost | None = None, space: Space = SPACE) -> list[int] | None:
    points = by_estimate(space, table(space, IMPORTANCE), Limit(cost or Cost(), bound))
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
    points = by_estimate(SPACE, table(SPACE, importance), Limit(Cost(site=4.0, rank=0.1), 5.5))
    assert points is not None
    assert points.tolist() == [0, 2, 0]


def test_a_group_counts_the_importance_of_all_its_sites() -> None:
    tied = rank_space("tied", SHAPE, [[Q.path, UP.path], [K.path]], [[0, 2], [0, 2]])
    assert ranks(4.0, space=tied) == [2, 2, 0]
    assert ranks(3.0, space=tied) == [0, 0, 2]


def test_widths_stay_those_of_the_base() -> None:
    space = Space("widths", SHAPE, (*SPACE.axes, Axis("width", (48, SHAPE.intermediate), (WIDTH(0),))))

    class OfRanks(Cost):
        def __call__(self, codes: NDArray[np.int64]) -> NDArray[np.float64]:
            return super().__call__(codes[:, :3])

    assert ranks(2.5, OfRanks(), space) == [2, 0, 0, SHAPE.intermediate]
    assert ranks(1.0, OfRanks(), space) is None


class Diminishing:
    """Loss that is known, of groups that each gain by the root of their rank: estimates are its exact changes."""

    def __init__(self, space: Space, seed: int, *, factors: bool = False) -> None:
        rng = np.random.default_rng(seed)
        self.space = space
        self.gains = rng.lognormal(size=(space.n_axes, 1)) * np.sqrt([[0, 2, 4]])
        self.factors = np.exp(rng.uniform(-0.5, 0.5, size=(space.n_axes, 1))) if factors else 1.0
        self.asked: list[list[int]] = []

    def loss(self, points: NDArray[np.int64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = -self.gains[np.arange(self.space.n_axes), points].sum(axis=-1)
        return found

    def __call__(self, point: NDArray[np.int64], /) -> NDArray[np.float64]:
        self.asked.append(point.tolist())
        present = self.gains[np.arange(self.space.n_axes), point][:, None]
        found: NDArray[np.float64] = (present - self.gains) * self.factors
        return found


BLOCKS = [[site.path] for site in SHAPE.sites[:7]]
SEVEN = rank_space("seven", SHAPE, BLOCKS, [[0, 2, 4]] * 7)
ALL = np.array(list(product(range(3), repeat=7)))


@pytest.mark.parametrize("seed", range(3))
def test_comes_close_to_the_optimum_of_a_space_that_can_be_enumerated(seed: int) -> None:
    known = Diminishing(SEVEN, seed)
    for bound in (5.0, 7.0, 9.0):
        limit = Limit(Cost(), bound)
        fits = ALL[Cost()(SEVEN.at(ALL)) <= bound]
        (found,) = staged(SEVEN, known, limit, [bound])
        best, worst = known.loss(fits).min(), known.loss(fits).max()
        assert known.loss(found) <= best + 0.1 * (worst - best)


def test_estimates_are_asked_for_once_in_each_stage_and_costs_fall() -> None:
    known, cost = Diminishing(SEVEN, 0, factors=True), Cost()
    found = staged(SEVEN, known, Limit(cost, 5.0), [5.0, 3.0], stages=4)
    assert len(known.asked) <= 1 + 4 + 4
    costs = cost(SEVEN.at(np.array(known.asked)))
    assert np.all(np.diff(costs) < 0)
    # In geometric stages above the cost of the lowest choices, which is 1.
    assert costs[1] <= 1 + (costs[0] - 1) ** 0.75 * 4.0**0.25
    for point, bound in zip(found, (5.0, 3.0), strict=True):
        assert cost(SEVEN.at(point)[None])[0] <= bound


def test_further_bounds_are_reached_in_stages_of_a_fifth_at_most() -> None:
    assert stages_to([9.0, 7.5, 4.2, 1.0], 1.0) == [8, 1, 4, 1]  # 0.81 and 0.49 of the cost above 1, and the base
    assert stages_to([9.0, 1.0001], 1.0, first=3) == [3, 3]


def test_nothing_is_estimated_where_the_largest_fits() -> None:
    known = Diminishing(SEVEN, 0)
    (found,) = staged(SEVEN, known, Limit(Cost(), 100.0), [100.0])
    assert np.array_equal(found, SEVEN.highest)
    assert known.asked == []


def test_another_start_is_shrunk_and_filled() -> None:
    start = np.array([2, 2, 2, 0, 0, 0, 0])  # costs 7
    known = Diminishing(SEVEN, 0)
    (lower,) = staged(SEVEN, known, Limit(Cost(), 4.5), [4.5], start=start)
    assert known.asked[0] == start.tolist()
    assert not np.array(known.asked)[:, 3:].any()
    assert Cost()(SEVEN.at(lower)[None])[0] <= 4.5
    (more,) = staged(SEVEN, known, Limit(Cost(), 10.0), [10.0], start=start)
    assert (more >= start).all()
    assert 8.0 < Cost()(SEVEN.at(more)[None])[0] <= 10.0


def test_a_bound_that_nothing_meets_ends_the_curve() -> None:
    known = Diminishing(SEVEN, 0)
    for further in (0.5, 1.2):  # below any adapter, and that of the base alone
        assert len(staged(SEVEN, known, Limit(Cost(), 5.0), [5.0, further])) == 1
    assert lowered(SEVEN, SEVEN.highest, known(SEVEN.highest), Limit(Cost(), 0.5), 0.5) is None


def test_choices_that_cost_nothing_less_are_not_lowered() -> None:
    """Rank 2 is slower than rank 4, as where a kernel likes some sizes better."""

    class Uneven(Cost):
        def __call__(self, codes: NDArray[np.int64]) -> NDArray[np.float64]:
            return self.base + np.select([codes == 2, codes > 0], [9.0, codes], 0.0).sum(axis=1)

    known = Diminishing(SEVEN, 0)
    lower = lowered(SEVEN, SEVEN.highest, known(SEVEN.highest), Limit(Uneven(), 13.0), 13.0)
    assert lower is not None
    assert sorted(lower.tolist()) == [0, 0, 0, 0, 2, 2, 2]


def test_a_lower_choice_that_saves_less_is_not_in_the_way() -> None:
    """Rank 0 costs more than rank 2, as where a kernel does both, and its loss is lower."""
    space = rank_space("one", SHAPE, [[Q.path]], [[0, 2, 4]])

    class Uneven(Cost):
        def __call__(self, codes: NDArray[np.int64]) -> NDArray[np.float64]:
            return np.select([codes == 0, codes == 2], [9.0, 5.0], 10.0).max(axis=1)

    changes = np.array([[-0.1, 1.0, 0.0]])
    lower = lowered(space, space.highest, changes, Limit(Uneven(), 6.0), 6.0)
    assert lower is not None
    assert lower.tolist() == [1]


def test_choices_that_lower_the_loss_are_left_out_first_and_not_raised_again() -> None:
    changes = np.array([[-3.0, -1.0, 0.0], [2.0, 1.0, 0.0], [5.0, 3.0, 0.0]])
    lower = lowered(SPACE, SPACE.highest, changes, Limit(Cost(), 5.0), 5.0)
    assert lower is not None
    assert lower.tolist() == [0, 2, 2]
    more = filled(SPACE, np.array([0, 1, 1]), np.array([[0, 2.0, 3.0], [1, 0, -1], [1, 0, 0.5]]), Limit(Cost(), 9), 9)
    assert more.tolist() == [0, 2, 1]


def test_what_is_filled_leaves_no_gain_that_fits() -> None:
    known = Diminishing(SEVEN, 3)
    for bound in np.linspace(2.5, 12, 15):
        point = filled(SEVEN, 0 * SEVEN.highest, known(SEVEN.highest), Limit(Cost(), bound), float(bound))
        assert Cost()(SEVEN.at(point)[None])[0] <= bound
        above = ALL[np.all(point <= ALL, axis=1) & (np.sum(point != ALL, axis=1) == 1)]
        assert np.all(Cost()(SEVEN.at(above)) > bound)
