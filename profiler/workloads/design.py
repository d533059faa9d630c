"""Selection of the configurations of a space to measure."""

import math

import numpy as np
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.profiler.workloads.configuration import Configuration
from adaptare.profiler.workloads.space import Space
from adaptare.profiler.workloads.work import linears_of

POOL = 256
PICKED_OF_A_POOL = 32
# A larger space is only drawn from.
MOST_LISTED = 10_000


def design(space: Space, n: int, *, seed: int) -> list[Configuration]:
    """At most n distinct configurations, spread over their cost, or all of a small space that has fewer.

    The first has every site at its largest rank, width and depth, the second every site at its smallest rank above 0
    and the smallest width and depth: their difference is the cost of rank and width, and that between the second and
    the base the cost of presence. Each further one is selected from a pool that `space.spread` draws by kind of linear,
    as the one whose calls, bytes and FLOPs (`quantities`) are farthest from all before it (Kennard and Stone 1969). A
    longer design starts with the rows of a shorter one, so a campaign can be extended.

    Args:
        space: Space to select from.
        n: At least 2.
        seed: Seed of the selection.

    Raises:
        InputError: n is below 2, or no configuration of the space differs from its base.
    """
    if n < 2:
        raise InputError(f"a design needs at least 2 configurations, not {n}")
    lowest = [min(int(axis.choices[0] == 0), len(axis.choices) - 1) for axis in space.axes]
    ends = space.at(np.stack([space.highest, lowest]))
    chosen = [row for row in ends[: 2 - int((ends[0] == ends[1]).all())] if space.changes_base(row)]
    seen = {row.tobytes() for row in chosen} | {space.base.tobytes()}
    scale = np.maximum(quantities(space, ends).max(axis=0), 1)
    rng, idle = np.random.default_rng(seed), 0
    while 0 < len(chosen) < n and idle < 100:
        pool = space.distinct(space.at(space.spread(POOL, rng, by_kind=True)))
        pool = pool[[row.tobytes() not in seen for row in pool]]
        idle = 0 if len(pool) else idle + 1
        places = quantities(space, pool) / scale
        taken = quantities(space, np.stack(chosen)) / scale
        nearest = np.linalg.norm(places[:, None] - taken[None], axis=2).min(axis=1)
        for _ in range(min(PICKED_OF_A_POOL, len(pool))):
            best = int(np.argmax(nearest))
            chosen.append(pool[best])
            seen.add(pool[best].tobytes())
            nearest = np.minimum(nearest, np.linalg.norm(places - places[best], axis=1))
            nearest[best] = -1.0
    n_choices = space.n_choices.tolist()
    if 0 < len(chosen) < n and math.prod(n_choices) <= MOST_LISTED:
        listed = space.at(np.indices(n_choices).reshape(space.n_axes, -1).T)
        chosen += [row for row in space.distinct(listed) if row.tobytes() not in seen]
    if not chosen:
        raise InputError(
            f"no configuration of the space {space.name!r} differs from the base; give it ranks above 0, or fewer "
            "neurons or layers"
        )
    return [space.decode(row) for row in chosen[:n]]


def quantities(space: Space, codes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Quantities that determine latency, per kind of linear and in total. Shape (n, 2 n_kinds + 2), and more of cuts.

    Two columns each: number of adapted linears, proportional to calls; and number of adapter weights, proportional to
    bytes and FLOPs. For each kind of dimension that cuts the base: number of places that are cut, and by how much; one
    column for layers, which are left out whole.
    """
    sites = space.sites
    linears = linears_of(space.shape, sites, space.dimensions, codes)
    kinds = list(dict.fromkeys(site.kind for site in sites))
    members = [site.kind == kind for site in sites for kind in kinds]
    member = np.array(members, dtype=np.float64).reshape(len(sites), len(kinds))
    both = [(linears.ranks > 0) @ member, linears.adapter_weights @ member]
    columns = [part for counts in both for part in (counts, counts.sum(axis=1, keepdims=True))]
    for kind in space.kinds:
        own = [number for number, each in enumerate(space.dimensions) if each.kind == kind and kind.cuts]
        cut = np.abs(space.base - codes)[:, own]
        counted = [cut] if kind.presence else [cut > 0, cut]
        columns += [each.sum(axis=1, keepdims=True) for each in counted if own]
    return np.hstack(columns).astype(np.float64)
