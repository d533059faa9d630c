"""Baseline configurations, chosen without a search, for comparison with its result."""

from collections.abc import Mapping
from itertools import product

import numpy as np
from numpy.typing import NDArray

from adaptare.profiler import Column, Configuration, MlpWidth, Site, Space
from adaptare.profiler.workloads.depth import Depth

QUERY_AND_VALUE = ("q_proj", "v_proj")
FUSED_ATTENTION = ("qkv_proj",)


def baselines(space: Space) -> dict[str, Configuration]:
    """Baselines: `uniform 8`, `q+v 8` (`qkv 8` where these linears are fused), and `midpoint`.

    Ranks are those that occur among the choices. A configuration need not be a choice of the space, but is never above
    the largest rank of a site there; several names may denote one configuration.
    """
    sites = {number: column for number, column in enumerate(space.columns) if isinstance(column, Site)}
    kinds = FUSED_ATTENTION if any(site.kind in FUSED_ATTENTION for site in sites.values()) else QUERY_AND_VALUE
    attention = {number: site for number, site in sites.items() if site.kind in kinds}
    named = {
        **_of_one_rank("uniform", space, sites),
        **_of_one_rank("+".join(kind.removesuffix("_proj") for kind in kinds), space, attention),
        "midpoint": space.decode(space.expand(midpoint(space)[None])[0]),
    }
    return {name: config for name, config in named.items() if config != Configuration()}


def midpoint(space: Space) -> NDArray[np.int64]:
    """Middle choice of every dimension; the larger of the two middle ones of an even number. Shape (n_dimensions,).

    References:
        Muñoz et al. 2024, "Shears: unstructured sparsity with neural low-rank adapter search" (its heuristic).
    """
    return space.n_choices // 2


def _of_one_rank(name: str, space: Space, sites: Mapping[int, Site]) -> dict[str, Configuration]:
    """One baseline for each rank that all of the sites can carry, on layers of the base's width."""
    largest = min(space.expand((space.n_choices - 1)[None])[0, list(sites)], default=0)
    of_ranks = [dimension for dimension in space.dimensions if isinstance(space.columns[dimension.columns[0]], Site)]
    known = {rank for dimension in of_ranks for rank in dimension.choices}
    ranks = sorted(rank for rank in known if 0 < rank <= largest)
    paths = [site.path for site in sites.values()]
    return {f"{name} {rank}": Configuration.of(dict.fromkeys(paths, rank)) for rank in ranks}


def uniform_cuts(space: Space) -> dict[str, NDArray[np.int64]]:
    """Models smaller than the base whose layers in the space have one width, at each depth, with the largest ranks.

    Where the space has the widths of all layers, stock transformers load these, and not those whose widths differ.

    Returns:
        `uniform width 1152`, `24 layers` or `24 layers of width 1152` -> genes, shape (n_dimensions,).
    """
    narrow, deep = _choices_of(space, MlpWidth), _choices_of(space, Depth)
    widths = sorted(set[int].intersection(*map(set, narrow.values()))) if narrow else [0]
    found = {}
    for depth, width in product(*deep.values() or [[0]], widths):
        genes: NDArray[np.int64] = space.n_choices - 1
        for wanted, choices in ((width, narrow), (depth, deep)):
            for number in choices if wanted else ():
                genes[number] = choices[number].index(wanted)
        config = space.decode(space.expand(genes[None])[0])
        if config.left_out:
            found[f"{depth} layers of width {width}" if config.widths else f"{depth} layers"] = genes
        elif config.widths:
            found[f"uniform width {width}"] = genes
    return found


def _choices_of(space: Space, kind: type[Column]) -> dict[int, tuple[int, ...]]:
    """Number of each dimension of a kind -> its choices."""
    return {
        number: dimension.choices
        for number, dimension in enumerate(space.dimensions)
        if isinstance(space.columns[dimension.columns[0]], kind)
    }
