"""Spaces with depth: their codes, the order in which layers are left out, and their files."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from adaptare.core import InputError
from adaptare.profiler import WIDTH, Configuration, ModelShape, Space, read_space
from adaptare.profiler.workloads.kinds import LAYER
from adaptare.profiler.workloads.space_file import even_order, grouped_space

SHAPE = ModelShape("llama", 6, 32, 4, 2, 8, 48, 64, '{"name":"six"}')
GROUPS = [{"sites": "*.q_proj", "ranks": [0, 2, 4]}, {"widths": [24, 48]}, {"depth": [6, 3, 4]}]
QUERY = "model.layers.{}.self_attn.q_proj"


def deep_space() -> Space:
    return grouped_space("deep", GROUPS, SHAPE).leaving_out((4, 2, 1, 3, 5, 0))


def test_a_depth_is_one_axis_of_all_layers() -> None:
    space = grouped_space("deep", GROUPS, SHAPE)
    depth = space.axes[-1]
    assert (depth.name, depth.choices, depth.kind) == ("depth", (3, 4, 6), LAYER)
    assert tuple(each.place for each in depth.dimensions) == space.removal_order == even_order(6)
    assert space.cuts_base
    assert not grouped_space("ranks", GROUPS[:1], SHAPE).cuts_base
    assert WIDTH not in grouped_space("depth", [{"depth": [3, 6]}], SHAPE).kinds


def test_layers_left_out_have_no_rank_and_no_width_of_their_own() -> None:
    space = deep_space()
    points = np.array([[2] * 6 + [0] * 6 + [choice] for choice in (0, 1, 2)])
    shallow, middle, whole = (space.decode(codes) for codes in space.at(points))
    assert (shallow.left_out, middle.left_out, whole.left_out) == ((1, 2, 4), (2, 4), ())
    assert shallow == Configuration.of(
        {QUERY.format(layer): 4 for layer in (0, 3, 5)}, widths=dict.fromkeys((0, 3, 5), 24), left_out=(1, 2, 4)
    )
    assert len(whole.ranks) == len(whole.by_layer) == 6


def test_codes_and_configurations_are_inverse() -> None:
    space = deep_space()
    for codes in space.at(space.sample(50, np.random.default_rng(0))):
        np.testing.assert_array_equal(space.encode(space.decode(codes)), codes)


def test_other_layers_than_the_next_in_order_are_not_in_the_space() -> None:
    with pytest.raises(InputError, match="depth leaves out 4, 2 first, and the configuration leaves out 2, 1"):
        deep_space().encode(Configuration.of(left_out=(1, 2)))
    with pytest.raises(InputError, match="does not set the presence of layer 1"):
        grouped_space("ranks", GROUPS[:1], SHAPE).encode(Configuration.of(left_out=(1,)))


def test_an_order_names_every_layer_once() -> None:
    with pytest.raises(InputError, match=r"must be a permutation of 0, 1, 2, 3, 4, 5, not"):
        deep_space().leaving_out((0, 1, 2, 3, 4, 4))


@pytest.mark.parametrize("layers", [1, 2, 6, 30])
def test_an_even_order_spreads_inner_layers_and_ends_with_the_ends(layers: int) -> None:
    order = even_order(layers)
    assert sorted(order) == list(range(layers))
    assert order[-2:] == (layers - 1, 0)[-min(2, layers) :]
    third = sorted(order[: layers // 3])
    assert all(after - before > 1 for before, after in pairwise(third))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ("{depth: [0, 4]}", "entry 1: `depth` must be different whole numbers >= 1, not "),
        ("{depth: [4, 7]}", "entry 1: `depth` must be at most the base's 6, not 7"),
        ("{depth: [4], tie: all}", "entry 1: needs `depth`, nothing else"),
        ("{depth: [4]}, {depth: [5]}", "entry 2: matches no layer, or only layers of earlier entries"),
    ],
)
def test_a_wrong_depth_in_a_file_is_refused_with_the_right_ones(entries: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(f"groups: [{entries}]")
    with pytest.raises(InputError, match=message):
        read_space(tmp_path / "space.yaml", SHAPE)
