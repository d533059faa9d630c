"""Baseline configurations, chosen without a search, for comparison with its result."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adaptare.profiler import Configuration, MlpWidth, Site, Space

QUERY_AND_VALUE = ("q_proj", "v_proj")
FUSED_ATTENTION = ("qkv_proj",)


@dataclass(frozen=True)
class Baseline:
    """Configuration with its common name.

    Args:
        name: `uniform 8`, `q+v 8` (`qkv 8` where these linears are fused), `uniform width 1152`, `24 layers` or
            `midpoint`.
        config: Ranks; not necessarily a choice of the space, but never above the largest rank of a site there.
    """

    name: str
    config: Configuration


def baselines(space: Space) -> tuple[Baseline, ...]:
    """Baselines: uniform ranks, query and value only, uniform widths or fewer layers with the largest ranks, midpoint.

    Ranks are those that occur among the choices. Several names may denote one configuration; `evaluate` checks them
    against a budget.
    """
    sites = {number: column for number, column in enumerate(space.columns) if isinstance(column, Site)}
    kinds = FUSED_ATTENTION if any(site.kind in FUSED_ATTENTION for site in sites.values()) else QUERY_AND_VALUE
    attention = {number: site for number, site in sites.items() if site.kind in kinds}
    attention_name = "+".join(kind.removesuffix("_proj") for kind in kinds)
    named = [
        *_of_one_rank("uniform", space, sites),
        *_of_one_rank(attention_name, space, attention),
        *_of_one_width(space),
        *_of_fewer_layers(space),
        Baseline("midpoint", space.decode(space.expand(midpoint(space)[None])[0])),
    ]
    return tuple(baseline for baseline in named if baseline.config != Configuration())


def midpoint(space: Space) -> NDArray[np.int64]:
    """Middle choice of every dimension; the larger of the two middle ones of an even number. Shape (n_dimensions,).

    References:
        Muñoz et al. 2024, "Shears: unstructured sparsity with neural low-rank adapter search" (its heuristic).
    """
    return space.n_choices // 2


def _of_one_rank(name: str, space: Space, sites: Mapping[int, Site]) -> list[Baseline]:
    """One baseline for each rank that all of the sites can carry, on layers of the base's width."""
    largest = min(space.expand((space.n_choices - 1)[None])[0, list(sites)], default=0)
    of_ranks = [dimension for dimension in space.dimensions if isinstance(space.columns[dimension.columns[0]], Site)]
    known = {rank for dimension in of_ranks for rank in dimension.choices}
    ranks = sorted(rank for rank in known if 0 < rank <= largest)
    paths = [site.path for site in sites.values()]
    return [Baseline(f"{name} {rank}", Configuration.of(dict.fromkeys(paths, rank))) for rank in ranks]


def _of_one_width(space: Space) -> list[Baseline]:
    """One baseline for each width that all layers of the space can have, narrower than the base."""
    numbers = [number for number, column in enumerate(space.columns) if isinstance(column, MlpWidth)]
    of_widths = [dimension for dimension in space.dimensions if dimension.columns[0] in numbers]
    named = []
    for width in sorted(set.intersection(*(set(dimension.choices) for dimension in of_widths)) if of_widths else set()):
        codes = space.expand((space.n_choices - 1)[None])[0]
        codes[numbers] = width
        if space.decode(codes).widths:
            named.append(Baseline(f"uniform width {width}", space.decode(codes)))
    return named


def _of_fewer_layers(space: Space) -> list[Baseline]:
    """One baseline for each depth below the largest."""
    columns = [space.columns[dimension.columns[0]] for dimension in space.dimensions]
    number = next((number for number, column in enumerate(columns) if column is space.depth), None)
    if number is None:
        return []
    genes = np.repeat((space.n_choices - 1)[None], space.n_choices[number] - 1, axis=0)
    genes[:, number] = range(len(genes))
    depths = space.dimensions[number].choices
    return [
        Baseline(f"{depth} layers", space.decode(codes))
        for depth, codes in zip(depths, space.expand(genes), strict=False)
    ]
