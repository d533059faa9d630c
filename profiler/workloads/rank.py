"""Rank of the low-rank adapter at a linear; 0 is no adapter there."""

from collections.abc import Mapping

from adaptare.profiler.workloads.dimension import Kind, range_of


def _by_linear(ranks: Mapping[str, int]) -> list[str]:
    """Ranks and number of adapted linears, by kind of linear."""
    kinds: dict[str, list[int]] = {}
    for path, rank in ranks.items():
        kinds.setdefault(path.rsplit(".", 1)[-1].removesuffix("_proj"), []).append(rank)
    return [f"{kind} {range_of(own)} x{len(own)}" for kind, own in kinds.items()]


RANK = Kind(
    name="rank",
    key="ranks",
    base=lambda shape: 0,
    least=0,
    largest=lambda site: site.largest_rank,
    of_linears=True,
    describe=_by_linear,
)
