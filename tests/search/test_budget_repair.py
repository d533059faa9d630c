from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.profiler import ModelShape, Space, named_space, read_space
from adaptare.profiler.workloads.space_file import rank_space
from adaptare.search import InfeasibleBudgetError, Limit
from adaptare.search.algorithms.budget_repair import BudgetRepair

SHAPE = ModelShape.from_mapping(
    {
        "model_type": "llama",
        "num_hidden_layers": 4,
        "hidden_size": 32,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 64,
        "vocab_size": 64,
    }
)
SPACE = named_space("kinds", SHAPE)


@dataclass(frozen=True)
class Cost:
    name: str
    function: Callable[[NDArray[np.int64]], NDArray[np.float64]]

    def __call__(self, codes: NDArray[np.int64], /) -> NDArray[np.float64]:
        return np.asarray(self.function(codes), dtype=np.float64)


total = Cost("total_rank", lambda codes: codes.sum(axis=1))
sites = Cost("adapted_sites", lambda codes: (codes > 0).sum(axis=1))
# Rank 2 is slower than rank 4, as where a kernel likes some sizes better.
uneven = Cost("uneven_s", lambda codes: np.select([codes == 2, codes > 0], [9.0, codes], 0.0).sum(axis=1))


def points(n: int = 64, seed: int = 0) -> NDArray[np.int64]:
    return SPACE.sample(n, np.random.default_rng(seed))


def repaired(limit: Limit, wild: NDArray[np.int64], *, space: Space = SPACE, seed: int = 0) -> NDArray[np.int64]:
    return BudgetRepair(space, [limit], seed=seed)(wild)


@pytest.mark.parametrize("cost", [total, sites, uneven], ids=lambda cost: cost.name)
@pytest.mark.parametrize("bound", [9.0, 100.0])
def test_whatever_comes_fits_afterwards_and_has_an_adapter(cost: Cost, bound: float) -> None:
    codes = SPACE.at(repaired(Limit(cost, bound), points()))
    assert np.all(cost(codes) <= bound)
    assert np.all(codes.any(axis=1))


def test_what_fits_already_is_left_as_it_is_and_the_rest_only_lowered() -> None:
    wild = points()
    fits = total(SPACE.at(wild)) <= 160
    assert 0 < fits.sum() < len(wild)
    found = repaired(Limit(total, 160.0), wild)
    assert np.array_equal(found[fits], wild[fits])
    assert np.all(found <= wild)


def test_the_points_handed_in_are_not_changed() -> None:
    wild = points()
    before = wild.copy()
    repaired(Limit(total, 30.0), wild)
    assert np.array_equal(wild, before)


def test_no_more_is_lowered_than_one_step_beyond_the_limit() -> None:
    # A step costs at most 8 x 3 ranks here: the largest step of the largest group.
    codes = SPACE.at(repaired(Limit(total, 60.0), np.repeat(SPACE.highest[None], 40, axis=0)))
    assert np.all(total(codes) > 60 - 24)


def test_some_lose_whole_groups_and_some_lose_steps_all_over() -> None:
    full = np.repeat(SPACE.highest[None], 60, axis=0)
    left = repaired(Limit(total, 150.0), full)
    untouched = np.sum(left == full, axis=1)
    assert untouched.max() >= 4 * max(1, untouched.min())


def test_points_without_adapter_get_one() -> None:
    empty = np.zeros((20, SPACE.n_axes), dtype=np.int64)
    given = repaired(Limit(total, 1000.0), empty)
    assert np.all((given > 0).sum(axis=1) == 1)
    assert len(np.unique(given, axis=0)) > 10


def test_the_same_seed_repairs_alike_and_another_does_not() -> None:
    limit = Limit(total, 60.0)
    assert np.array_equal(repaired(limit, points(), seed=1), repaired(limit, points(), seed=1))
    assert not np.array_equal(repaired(limit, points(), seed=1), repaired(limit, points(), seed=2))


def test_the_smallest_adapter_need_not_be_of_the_lowest_rank() -> None:
    codes = SPACE.at(repaired(Limit(uneven, 4.0), points()))
    assert np.all(uneven(codes) == 4.0)


def test_a_limit_that_no_adapter_meets_is_refused_with_the_smallest_value() -> None:
    with pytest.raises(
        InfeasibleBudgetError, match=r"total <= 1 rank: the smallest reachable is 2 rank, and that of the base 0 rank"
    ):
        BudgetRepair(SPACE, [Limit(total, 1.0)], seed=0)


def test_the_limit_that_is_exceeded_most_is_the_one_named() -> None:
    with pytest.raises(InfeasibleBudgetError, match=r"adapted <= 0\.5 sites"):
        BudgetRepair(SPACE, [Limit(total, 1.9), Limit(sites, 0.5), Limit(uneven, 1000.0)], seed=0)


def test_where_every_group_has_an_adapter_the_smallest_is_the_lowest_rank_everywhere() -> None:
    space = named_space("layers", SHAPE, ranks=(4, 8))
    lowest = 4.0 * len(space.dimensions)
    full = np.ones((3, space.n_axes), dtype=np.int64)
    assert np.all(repaired(Limit(total, lowest), full, space=space) == 0)
    with pytest.raises(InfeasibleBudgetError, match=f"the smallest reachable is {lowest:g} "):
        BudgetRepair(space, [Limit(total, lowest - 1)], seed=0)


def test_a_space_of_zeros_is_refused() -> None:
    zeros = rank_space("zeros", SHAPE, [[SHAPE.sites[0].path]], ((0,),))
    with pytest.raises(InputError, match="has no adapter at all; give some dimension a rank above 0"):
        BudgetRepair(zeros, [], seed=0)


def with_widths(tmp_path: Path, groups: str) -> Space:
    file = tmp_path / "space.yaml"
    file.write_text(f"groups: [{groups}]")
    return read_space(file, SHAPE)


def test_widths_are_lowered_like_ranks(tmp_path: Path) -> None:
    space = with_widths(tmp_path, "{sites: '*.q_proj', ranks: [0, 4]}, {widths: [16, 32, 64]}")
    wild = space.sample(40, np.random.default_rng(0))
    codes = space.at(repaired(Limit(total, 120.0), wild, space=space))
    assert total(codes).max() <= 120
    assert space.changes_base(codes).all()
    assert len(np.unique(codes[:, -4:])) == 3
    with pytest.raises(InfeasibleBudgetError, match="the smallest reachable is 64 rank, and that of the base 256 rank"):
        BudgetRepair(space, [Limit(total, 60.0)], seed=0)


def test_the_base_among_the_points_becomes_narrower_or_adapted(tmp_path: Path) -> None:
    space = with_widths(tmp_path, "{sites: '*.q_proj', ranks: [0, 4], tie: all}, {widths: [16, 32, 64], tie: all}")
    base = np.repeat([[0, 2]], 40, axis=0)
    found = np.unique(repaired(Limit(total, 1000.0), base, space=space), axis=0)
    assert found.tolist() == [[0, 0], [0, 1], [1, 2]]


@pytest.mark.parametrize(("cost", "bound"), [(total, 100.0), (sites, 9.0), (uneven, 30.0)])
def test_filled_points_fit_and_leave_no_step_that_fits(cost: Cost, bound: float) -> None:
    limit = Limit(cost, bound)
    repair = BudgetRepair(SPACE, [limit], seed=0)
    before = repair(points(16))
    filled = repair.fill(before)
    assert np.all(cost(SPACE.at(filled)) <= bound)
    assert np.all(filled >= before)
    for point in filled:
        steps = point + np.eye(SPACE.n_axes, dtype=np.int64)
        steps = steps[np.all(steps < SPACE.n_choices, axis=1)]
        assert np.all(cost(SPACE.at(steps)) > bound)


def test_nothing_is_filled_where_the_limit_does_not_bind() -> None:
    wild = points()
    assert np.array_equal(BudgetRepair(SPACE, [Limit(total, 1e6)], seed=0).fill(wild), wild)
