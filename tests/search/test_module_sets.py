from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from adaptare.profiler import Configuration, ModelShape, named_space
from adaptare.profiler.workloads import grouped_space
from adaptare.search import Limit
from adaptare.search.algorithms import module_sets

SHAPE = ModelShape("llama", 3, 64, 4, 2, 16, 96, 64, "{}")
KINDS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
BLOCKS = named_space("blocks", SHAPE, ranks=(0, 4, 16))


class Cost:
    """Ranks, and 10 for each adapted linear."""

    name = "cost_s"

    def __call__(self, codes: NDArray[np.int64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = 1.0 * (codes + 10 * (codes > 0)).sum(axis=-1)
        return found


def of_kinds(kinds: int, rank: int) -> float:
    """Cost of a number of kinds in all three layers."""
    return 3.0 * kinds * (10 + rank)


@pytest.mark.parametrize("n", range(1, 8))
def test_sets_are_all_that_no_other_kind_fits_into(n: int) -> None:
    found = module_sets(BLOCKS, Limit(Cost(), of_kinds(n, 16)))
    wanted = [Configuration.uniform(SHAPE, 16, kinds=some) for some in combinations(KINDS, n)]
    assert set(map(BLOCKS.decode, found.values())) == set(wanted)
    assert len(found) == len(wanted)


def test_names_are_kinds_and_their_rank() -> None:
    name, codes = next(iter(module_sets(BLOCKS, Limit(Cost(), of_kinds(7, 16))).items()))
    assert name == "q+k+v+o+gate+up+down 16"
    assert BLOCKS.decode(codes) == Configuration.uniform(SHAPE, 16)


def test_none_is_within_a_limit_below_all() -> None:
    assert module_sets(BLOCKS, Limit(Cost(), of_kinds(1, 16) - 1)) == {}


@pytest.mark.parametrize(("mlp", "name"), [([0, 8, 16], "q+k+v+o+gate+up+down 8"), ([0, 16], "gate+up+down 16")])
def test_ranks_are_choices_of_every_linear(mlp: list[int], name: str) -> None:
    groups = [{"sites": "*.self_attn.*", "ranks": [0, 4, 8]}, {"sites": "*.mlp.*", "ranks": mlp}]
    found = module_sets(grouped_space("mixed", groups, SHAPE), Limit(Cost(), 1e6))
    assert name in found
    assert all(set(codes) <= {0, 8, 16} for codes in found.values())


def test_linears_outside_the_space_have_no_rank() -> None:
    space = grouped_space("attention", [{"sites": "*.self_attn.*", "ranks": [0, 4]}], SHAPE)
    (codes,) = module_sets(space, Limit(Cost(), 1e6)).values()
    assert {path.rpartition(".")[2] for path, _ in space.decode(codes).ranks} == set(KINDS[:4])


@pytest.mark.parametrize(
    "groups",
    [[{"sites": "*", "ranks": [4, 8]}], [{"sites": "*", "ranks": [0, 8]}, {"widths": [48, 96]}]],
    ids=["no rank 0", "widths"],
)
def test_spaces_that_are_not_of_ranks_down_to_zero_have_none(groups: list[dict[str, object]]) -> None:
    assert module_sets(grouped_space("other", groups, SHAPE), Limit(Cost(), 1e6)) == {}
