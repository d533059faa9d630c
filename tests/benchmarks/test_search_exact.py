"""Exact optimum of estimated changes of a loss."""

from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray
from search_exact import by_steps, estimated, exact, summary

from adaptare.profiler import ModelShape
from adaptare.profiler.workloads.space_file import rank_space
from adaptare.search import Limit

SHAPE = ModelShape("llama", 2, 64, 4, 2, 16, 96, 64, "{}")
SPACE = rank_space("four", SHAPE, [[site.path] for site in SHAPE.sites[:4]], [[0, 2, 4]] * 4)


class Cost:
    """Price of an adapter and of its ranks, and of a spread that grows with the root of the number of adapters."""

    name = "cost_s"

    def __init__(self, spread: float = 0.0) -> None:
        self.spread = spread

    def __call__(self, codes: NDArray[np.int64]) -> NDArray[np.float64]:
        adapters = (codes > 0).sum(axis=1)
        found: NDArray[np.float64] = 1.0 + adapters + 0.25 * codes.sum(axis=1) + self.spread * np.sqrt(adapters)
        return found


def changes(seed: int, start: NDArray[np.int64]) -> NDArray[np.float64]:
    table = np.random.default_rng(seed).normal(size=(SPACE.n_axes, 3))
    return table - table[np.arange(SPACE.n_axes), start][:, None]


@pytest.mark.parametrize("seed", range(20))
def test_no_point_within_the_limit_has_a_lower_sum(seed: int) -> None:
    start, limit = SPACE.highest, Limit(Cost(), 2.5 + seed % 5)
    table = changes(seed, start)
    found = exact(SPACE, start, table, limit)
    points = np.array(list(product(range(3), repeat=SPACE.n_axes)))
    fits = limit.cost(np.array([SPACE.at(point) for point in points])) <= limit.bound
    assert limit.cost(SPACE.at(found)[None])[0] <= limit.bound
    assert estimated(table, found) == pytest.approx(min(estimated(table, point) for point in points[fits]))
    assert estimated(table, found) <= estimated(table, by_steps(SPACE, table, limit)) + 1e-9


@pytest.mark.parametrize(("spread", "bound"), [(2.0, 5.0), (-0.7, 4.0)], ids=["sums too high", "sums too low"])
def test_a_cost_that_does_not_add_up_is_kept_to_and_used(spread: float, bound: float) -> None:
    """From the largest, an adapter alone saves less of a spread that grows with the root than its share of all."""
    start, limit = SPACE.highest, Limit(Cost(spread), bound)
    points = np.array(list(product(range(3), repeat=SPACE.n_axes)))
    fits = points[limit.cost(np.array([SPACE.at(point) for point in points])) <= limit.bound]
    for seed in range(20):
        table = changes(seed, start)
        found = exact(SPACE, start, table, limit)
        assert limit.cost(SPACE.at(found)[None])[0] <= limit.bound
        assert estimated(table, found) == pytest.approx(min(estimated(table, point) for point in fits))


def test_groups_without_an_estimate_stay_as_they_are() -> None:
    start = np.array([1, 2, 0, 1])
    table = changes(0, start)
    table[1] = np.nan
    assert exact(SPACE, start, table, Limit(Cost(), 100.0))[1] == 2


def test_a_summary_has_means_over_trainings() -> None:
    rows = [
        {
            "seed": seed,
            "part": 0.5,
            "estimates": "at the largest",
            "changed": 2 * seed,
            "estimated": {"steps": 3.0, "exact": 1.0 + seed},
            "true": {"steps": 5.0, "exact": 4.0},
            "difference": [0.0, 0.1 * seed, 0.4],
        }
        for seed in (0, 1)
    ]
    (found,) = summary(rows)
    assert (found["changed"], found["estimated_exact"], found["true_steps"]) == (1.0, 1.5, 5.0)
    # Student's t of two values: 12.706 times half their distance.
    assert found["difference"] == pytest.approx((0.05 - 12.706 * 0.05, 0.05, 0.05 + 12.706 * 0.05), abs=1e-4)
