"""Baseline configurations, chosen without a search, for comparison with its result."""

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from adaptare.profiler import WIDTH, Configuration, Kind, Space
from adaptare.profiler.workloads import LAYER

QUERY_AND_VALUE = ("q_proj", "v_proj")
FUSED_ATTENTION = ("qkv_proj",)
# Of a decoder layer: name -> part of the paths of its linears.
HALVES = {"attention": ".self_attn.", "MLP": ".mlp."}


def baselines(space: Space) -> dict[str, Configuration]:
    """Baselines: `uniform 8` and other ranks, `midpoint`, `q+v 16` (`qkv 16` if fused), `attention 16` and `MLP 16`.

    The last two are left out of spaces that have only one of them. Ranks are those that occur among the choices; the
    last three have the largest. A configuration need not be a choice of the space, but is never above the largest rank
    of a site there; several names may denote one configuration.
    """
    kinds = FUSED_ATTENTION if any(site.kind in FUSED_ATTENTION for site in space.sites) else QUERY_AND_VALUE
    paths = [site.path for site in space.sites]
    named = {**_of_one_rank("uniform", space, paths), "midpoint": space.decode(space.at(midpoint(space)))}
    halves = {half: [path for path in paths if part in path] for half, part in HALVES.items()}
    parts = {"+".join(kind.removesuffix("_proj") for kind in kinds): [s.path for s in space.sites if s.kind in kinds]}
    for part, own in {**parts, **(halves if all(halves.values()) else {})}.items():
        *_, largest = [None, *_of_one_rank(part, space, own).items()]
        named |= [largest] if largest else []
    return {name: config for name, config in named.items() if config != _largest(space).without_adapter}


def midpoint(space: Space) -> NDArray[np.int64]:
    """Middle choice of every dimension; the larger of the two middle ones of an even number. Shape (n_axes,).

    References:
        Muñoz et al. 2024, "Shears: unstructured sparsity with neural low-rank adapter search" (its heuristic).
    """
    return space.n_choices // 2


def _of_one_rank(name: str, space: Space, paths: Sequence[str]) -> dict[str, Configuration]:
    """One baseline for each rank that all of the sites can carry, on the largest model of the space."""
    adapted = [axis for axis in space.axes if not axis.kind.cuts]
    carrying = [axis for axis in adapted if not set(paths).isdisjoint(each.place for each in axis.dimensions)]
    largest = min((axis.choices[-1] for axis in carrying), default=0)
    ranks = sorted({rank for axis in adapted for rank in axis.choices if 0 < rank <= largest})
    return {f"{name} {rank}": _largest(space).with_ranks(dict.fromkeys(paths, rank)) for rank in ranks}


def _largest(space: Space) -> Configuration:
    """The largest of every choice; smaller than the base where the space has no more layers or neurons."""
    return space.decode(space.at(space.highest))


def uniform_cuts(space: Space) -> dict[str, NDArray[np.int64]]:
    """Models smaller than the base whose layers in the space have one width, at each depth, with the largest ranks.

    Where the space has the widths of all layers, stock transformers load these, and not those whose widths differ.

    Returns:
        `uniform width 1152`, `24 layers` or `24 layers of width 1152` -> points, shape (n_axes,).
    """
    narrow, deep = _choices_of(space, WIDTH), _choices_of(space, LAYER)
    widths = sorted(set[int].intersection(*map(set, narrow.values()))) if narrow else [0]
    found = {}
    for depth, width in product(*deep.values() or [[0]], widths):
        points: NDArray[np.int64] = space.highest
        for wanted, choices in ((width, narrow), (depth, deep)):
            for number in choices if wanted else ():
                points[number] = choices[number].index(wanted)
        config = space.decode(space.at(points))
        if config.left_out:
            found[f"{depth} layers of width {width}" if config.by_layer else f"{depth} layers"] = points
        elif config.by_layer:
            found[f"uniform width {width}"] = points
    return found


def _choices_of(space: Space, kind: Kind) -> dict[int, tuple[int, ...]]:
    """Number of each axis of a kind -> its choices."""
    return {number: axis.choices for number, axis in enumerate(space.axes) if axis.kind == kind}
