from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.profiler import ModelShape, Space, design, named_space, read_space
from adaptare.profiler.workloads.design import quantities
from adaptare.profiler.workloads.space_file import rank_space


def designed(space: Space, n: int, *, seed: int) -> NDArray[np.int64]:
    """Codes of the configurations of a design. Shape (at most n, n_codes)."""
    return np.stack([space.encode(each) for each in design(space, n, seed=seed)])


def test_begins_with_the_largest_and_the_smallest_ranks(llama: ModelShape) -> None:
    codes = designed(named_space("blocks", llama, ranks=(0, 2, 8)), 5, seed=0)
    assert set(codes[0]) == {8}
    assert set(codes[1]) == {2}


def test_rows_differ_and_none_is_empty(llama: ModelShape) -> None:
    codes = designed(named_space("sites", llama), 40, seed=0)
    assert len(np.unique(codes, axis=0)) == 40
    assert (codes.sum(axis=1) > 0).all()


def test_a_longer_design_begins_with_the_shorter(llama: ModelShape) -> None:
    space = named_space("sites", llama)
    assert (designed(space, 50, seed=1)[:20] == designed(space, 20, seed=1)).all()
    assert (designed(space, 20, seed=1) != designed(space, 20, seed=2)).any()


def test_rows_are_less_alike_than_drawn_ones(llama: ModelShape) -> None:
    space = named_space("sites", llama)
    largest, closest = quantities(space, designed(space, 2, seed=0)[:1]), {}
    for name, codes in (
        ("designed", designed(space, 30, seed=0)),
        ("drawn", space.at(space.spread(30, np.random.default_rng(0)))),
        ("uniform", space.at(space.sample(30, np.random.default_rng(0)))),
    ):
        places = quantities(space, codes) / largest
        apart = np.linalg.norm(places[:, None] - places[None], axis=2)
        closest[name] = np.median(np.sort(apart, axis=1)[:, 1])
    assert closest["designed"] > 1.5 * max(closest["drawn"], closest["uniform"])


def test_adapters_on_few_kinds_of_linears_are_among_them(llama: ModelShape) -> None:
    space = named_space("blocks", replace(llama, layers=30))
    ranked = designed(space, 40, seed=0) > 0
    mlp = np.array([".mlp." in str(each.place) for each in space.dimensions])
    apart = ranked[:, mlp].mean(axis=1) - ranked[:, ~mlp].mean(axis=1)
    assert apart.max() > 0.4
    assert apart.min() < -0.4


def test_quantities_are_linears_and_weights_by_kind(llama: ModelShape) -> None:
    space = named_space("kinds", llama)
    codes = space.at(np.ones((1, space.n_axes), dtype=np.int64))
    found = quantities(space, codes)[0]
    kinds = {site.kind for site in space.sites}
    assert len(found) == 2 * len(kinds) + 2
    assert found[len(kinds)] == found[: len(kinds)].sum() == len(space.sites)
    assert found[-1] == space.decode(codes[0]).adapter_parameters(llama)


def test_a_smaller_space_is_taken_whole(llama: ModelShape) -> None:
    with pytest.raises(InputError, match="at least 2"):
        designed(named_space("blocks", llama), 1, seed=0)
    one_site = rank_space("tiny", llama, [[llama.sites[0].path]], ((0, 2, 4),))
    assert designed(one_site, 2, seed=0).tolist() == [[4], [2]]
    several = rank_space("small", llama, [[site.path] for site in llama.sites[:3]], [(0, 2, 4)] * 3)
    codes = designed(several, 100, seed=0)
    assert codes.shape == (3**3 - 1, 3)
    assert len(np.unique(codes, axis=0)) == len(codes)
    assert (codes > 0).any(axis=1).all()


@pytest.fixture
def widths(llama: ModelShape, tmp_path: Path) -> Space:
    file = tmp_path / "space.yaml"
    file.write_text("groups: [{sites: '*', ranks: [0, 2]}, {widths: [16, 32, 48]}]")
    return read_space(file, llama)


def test_designs_of_widths_begin_with_the_largest_and_the_smallest(widths: Space, llama: ModelShape) -> None:
    codes = designed(widths, 20, seed=0)
    assert [set(codes[row, -2:]) for row in (0, 1)] == [{48}, {16}]
    assert widths.changes_base(codes).all()
    assert len(np.unique(codes, axis=0)) == 20
    assert {16, 32, 48} == set(codes[2:, -1].tolist())


def test_neurons_that_layers_lack_are_quantities(widths: Space) -> None:
    codes = np.vstack([widths.base, widths.base])
    codes[1, -2:] = (16, 32)
    assert quantities(widths, codes)[:, -2:].tolist() == [[0, 0], [2, 48]]


def test_the_base_itself_is_not_measured(llama: ModelShape, tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text("groups: [{widths: [16, 48]}]")
    assert designed(read_space(file, llama), 3, seed=0).tolist()[0] == [16, 16]
    file.write_text("groups: [{widths: [48]}]")
    with pytest.raises(InputError, match=r"no configuration of the space .* differs from the base"):
        designed(read_space(file, llama), 2, seed=0)
