from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from adaptare.profiler import Configuration, ModelShape, named_space
from adaptare.profiler.workloads import grouped_space
from adaptare.search import Limit
from adaptare.search.algorithms import in_all_layers, module_sets

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


def k_of(name: str) -> int:
    """One layer in how many is adapted, from the name of a set."""
    return int(name.rpartition("one layer in ")[2]) if "one layer in" in name else 1


@pytest.mark.parametrize("n", [1, 3, 7])
def test_sets_in_all_layers_are_all_that_no_other_kind_fits_into(n: int) -> None:
    found = module_sets(BLOCKS, Limit(Cost(), of_kinds(n, 16)))
    wanted = [Configuration.uniform(SHAPE, 16, kinds=some) for some in combinations(KINDS, n)]
    everywhere = [codes for name, codes in found.items() if k_of(name) == 1]
    assert set(map(BLOCKS.decode, everywhere)) == set(wanted)
    assert len(everywhere) == len(wanted)


@pytest.mark.parametrize("linears", [5, 6, 20, 41])
def test_larger_sets_are_in_the_last_of_each_k_layers_with_the_smallest_k_that_fits(linears: int) -> None:
    deep = ModelShape("llama", 6, 64, 4, 2, 16, 96, 64, "{}")
    space = named_space("blocks", deep, ranks=(0, 4, 16))
    found = module_sets(space, Limit(Cost(), linears * 26.0))
    smallest = {n: next((k for k in range(1, 7) if n * (6 // k) <= linears), None) for n in range(1, 8)}
    wanted = {
        Configuration.of({s.path: 16 for s in space.sites if s.kind in some and s.layer in range(k - 1, 6, k)}): k
        for n, k in smallest.items()
        if k and k != smallest.get(n + 1)
        for some in combinations(KINDS, n)
    }
    assert {space.decode(codes): k_of(name) for name, codes in found.items()} == wanted
    counts = [np.count_nonzero(codes) for codes in found.values()]
    assert counts == sorted(counts, reverse=True)


def test_names_are_kinds_and_their_rank() -> None:
    name, codes = next(iter(module_sets(BLOCKS, Limit(Cost(), of_kinds(7, 16))).items()))
    assert name == "q+k+v+o+gate+up+down 16"
    assert BLOCKS.decode(codes) == Configuration.uniform(SHAPE, 16)
    assert "q+k+v+o+gate+up+down 16, one layer in 2" in module_sets(BLOCKS, Limit(Cost(), of_kinds(3, 16)))


def test_none_is_within_a_limit_below_all() -> None:
    assert module_sets(BLOCKS, Limit(Cost(), 10 + 16 - 1)) == {}


@pytest.mark.parametrize(
    ("mlp", "names"),
    [([0, 8, 16], ["q+k+v+o+gate+up+down 8", "gate+up+down 16"]), ([0, 16], ["q+k+v+o 8", "gate+up+down 16"])],
)
def test_ranks_are_choices_of_every_linear_and_no_larger_set_has_as_large_a_rank(
    mlp: list[int], names: list[str]
) -> None:
    groups = [{"sites": "*.self_attn.*", "ranks": [0, 4, 8]}, {"sites": "*.mlp.*", "ranks": mlp}]
    space = grouped_space("mixed", groups, SHAPE)
    found = module_sets(space, Limit(Cost(), 1e6))
    assert list(found) == names
    for codes in found.values():
        chosen = zip(space.untied.axes, codes.tolist(), strict=True)
        assert all(code in axis.choices for axis, code in chosen)


class CostOfWide(Cost):
    """As `Cost`, and twice as much for linears of the MLP."""

    def __call__(self, codes: NDArray[np.int64]) -> NDArray[np.float64]:
        wide = np.array([".mlp." in str(each.place) for each in BLOCKS.dimensions])
        return super().__call__(codes) + super().__call__(codes * wide)


def test_sets_of_different_sizes_stand_side_by_side() -> None:
    limit = Limit(CostOfWide(), of_kinds(4, 16))
    names = [name for name in module_sets(BLOCKS, limit) if k_of(name) == 1]
    found = {frozenset(name.removesuffix(" 16").split("+")) for name in names}
    weights = {kind.removesuffix("_proj"): 2 if kind in KINDS[4:] else 1 for kind in KINDS}
    fitting = [
        frozenset(some) for n in range(1, 8) for some in combinations(weights, n) if sum(map(weights.get, some)) <= 4
    ]
    assert found == {some for some in fitting if not any(some < more for more in fitting)}
    assert {len(some) for some in found} == {2, 3, 4}


def test_linears_outside_the_space_have_no_rank() -> None:
    space = grouped_space("attention", [{"sites": "*.self_attn.*", "ranks": [0, 4]}], SHAPE)
    (codes,) = module_sets(space, Limit(Cost(), 1e6)).values()
    assert {path.rpartition(".")[2] for path, _ in space.decode(codes).ranks} == set(KINDS[:4])


def test_kinds_of_a_set_are_in_all_layers_at_their_largest_ranks() -> None:
    codes = module_sets(BLOCKS, Limit(Cost(), of_kinds(2, 16)))["q+k+v+o+gate+up 16, one layer in 2"]
    name, point = in_all_layers(BLOCKS.untied, codes)
    assert name == "q+k+v+o+gate+up"
    assert BLOCKS.decode(BLOCKS.untied.at(point)) == Configuration.uniform(SHAPE, 16, kinds=KINDS[:-1])


def test_kinds_are_at_the_largest_rank_that_each_can_have() -> None:
    groups = [{"sites": "*.self_attn.*", "ranks": [0, 4]}, {"sites": "*.mlp.*", "ranks": [0, 4, 8]}]
    space = grouped_space("mixed", groups, SHAPE)
    name, point = in_all_layers(space.untied, module_sets(space, Limit(Cost(), 1e6))["q+k+v+o+gate+up+down 4"])
    assert name == "q+k+v+o+gate+up+down"
    assert np.array_equal(space.untied.at(point), space.at(space.highest))


@pytest.mark.parametrize(
    "groups",
    [[{"sites": "*", "ranks": [4, 8]}], [{"sites": "*", "ranks": [0, 8]}, {"widths": [48, 96]}]],
    ids=["no rank 0", "widths"],
)
def test_spaces_that_are_not_of_ranks_down_to_zero_have_none(groups: list[dict[str, object]]) -> None:
    assert module_sets(grouped_space("other", groups, SHAPE), Limit(Cost(), 1e6)) == {}
