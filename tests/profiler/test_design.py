import numpy as np
import pytest

from adaptare.devices import InputError
from adaptare.profiler import ModelShape, RankSpace, design, named_space


def test_begins_with_the_largest_and_the_smallest_ranks(llama: ModelShape) -> None:
    codes = design(named_space("blocks", llama, ranks=(0, 2, 8)), 5, seed=0)
    assert set(codes[0]) == {8}
    assert set(codes[1]) == {2}


def test_rows_differ_and_none_is_empty(llama: ModelShape) -> None:
    codes = design(named_space("sites", llama), 40, seed=0)
    assert len(np.unique(codes, axis=0)) == 40
    assert (codes.sum(axis=1) > 0).all()


def test_a_longer_design_begins_with_the_shorter(llama: ModelShape) -> None:
    space = named_space("sites", llama)
    assert (design(space, 50, seed=1)[:20] == design(space, 20, seed=1)).all()
    assert (design(space, 20, seed=1) != design(space, 20, seed=2)).any()


def test_costs_reach_from_few_sites_to_all(llama: ModelShape) -> None:
    active = (design(named_space("sites", llama), 60, seed=0)[2:] > 0).mean(axis=1)
    assert active.min() < 0.2
    assert active.max() > 0.8
    assert 0.3 < active.mean() < 0.7


def test_refuses_more_than_the_space_has(llama: ModelShape) -> None:
    one_site = RankSpace("tiny", llama.sites[:1], ((0,),), ((0, 2, 4),))
    assert design(one_site, 2, seed=0).tolist() == [[4], [2]]
    with pytest.raises(InputError, match="only about 2 different"):
        design(one_site, 5, seed=0)


def test_refuses_fewer_than_two(llama: ModelShape) -> None:
    with pytest.raises(InputError, match="at least 2"):
        design(named_space("blocks", llama), 1, seed=0)


def test_one_rank_per_site_is_a_space_too(llama: ModelShape) -> None:
    codes = design(named_space("sites", llama, ranks=(0, 8)), 10, seed=0)
    assert set(codes[0]) == {8}
    assert len(np.unique(codes, axis=0)) == 10
