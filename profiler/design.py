"""Which configurations of a space to measure."""

import numpy as np
from numpy.typing import NDArray

from adaptare.devices import InputError
from adaptare.profiler.space import RankSpace


def design(space: RankSpace, n: int, *, seed: int) -> NDArray[np.int64]:
    """Codes of different configurations, spread over the space. Shape (n, n_sites).

    The first is every site at its largest rank, the second every site at its smallest rank above 0: between them
    lies what rank costs, and between the second and the base what presence costs. The rest is `space.spread`.
    The first rows of a longer design are those of a shorter one, so a campaign can be made longer later.

    Args:
        space: To choose from.
        n: At least 2.
        seed: Of the choice.

    Raises:
        InputError: The space has fewer different configurations.
    """
    if n < 2:
        raise InputError(f"a design needs at least 2 configurations, not {n}")
    largest = space.expand((space.n_choices - 1)[None, :])[0]
    smallest_genes = np.array([min(int(ranks[0] == 0), len(ranks) - 1) for ranks in space.choices], dtype=np.int64)
    smallest = space.expand(smallest_genes[None, :])[0]
    chosen = [largest] if (largest == smallest).all() else [largest, smallest]
    seen = {row.tobytes() for row in chosen} | {np.zeros_like(largest).tobytes()}
    rng = np.random.default_rng(seed)
    for _ in range(100):
        for row in space.expand(space.spread(max(8, space.n_groups), rng)):
            if row.tobytes() not in seen:
                seen.add(row.tobytes())
                chosen.append(row)
        if len(chosen) >= n:
            return np.stack(chosen[:n])
    raise InputError(f"the space {space.name!r} has only about {len(chosen)} different configurations, fewer than {n}")
