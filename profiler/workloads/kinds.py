"""Kinds of dimensions: ranks, widths and layers, and those that installed packages register."""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from adaptare.core import InputError
from adaptare.core.extensions import extension, extensions
from adaptare.profiler.workloads.dimension import Kind, range_of
from adaptare.profiler.workloads.part import NOTHING, Part
from adaptare.profiler.workloads.shape import ModelShape

DIMENSIONS = "adaptare.dimensions"


def _by_linear(ranks: Mapping[str, int]) -> list[str]:
    """Ranks and number of adapted linears, by kind of linear."""
    kinds: dict[str, list[int]] = {}
    for path, rank in ranks.items():
        kinds.setdefault(path.rsplit(".", 1)[-1].removesuffix("_proj"), []).append(rank)
    return [f"{kind} {range_of(own)} x{len(own)}" for kind, own in kinds.items()]


def _first_neurons(shape: ModelShape, layer: int, width: int) -> Mapping[str, Part]:
    return {f"model.layers.{layer}.{name}": part for name, part in _parts(shape, width).items()}


@lru_cache(1024)
def _parts(shape: ModelShape, width: int) -> Mapping[str, Part]:
    """Name in the layer -> part; rows are those of gate, then of up where both are fused."""
    parts = {}
    for usual, here in zip(shape.linears, replace(shape, intermediate=width).linears, strict=True):
        name, wide_in, wide_out = usual
        if here != usual:
            halves = range(wide_out // shape.intermediate)
            rows = tuple((half * shape.intermediate, half * shape.intermediate + width) for half in halves)
            parts[name] = Part(rows if here[2] < wide_out else None, ((0, width),) if here[1] < wide_in else None)
    return parts


def _without_layer(shape: ModelShape, layer: int, value: int) -> Mapping[str, Part]:
    return {} if value else {f"model.layers.{layer}.{name}": NOTHING for name, *_ in shape.linears}


# Rank of the low-rank adapter at a linear; 0 is no adapter there.
RANK = Kind(
    name="rank",
    key="ranks",
    base=lambda shape: 0,
    least=0,
    largest=lambda site: site.largest_rank,
    of_linears=True,
    describe=_by_linear,
)
# Width of the MLP of a decoder layer, which keeps its first neurons.
WIDTH = Kind(
    name="width",
    key="widths",
    base=lambda shape: shape.intermediate,
    tensors=_first_neurons,
    label="MLP",
    config=lambda shape, width: {"intermediate_size": width},
    in_graphs=True,
)
# Decoder layers; the layer after one that is left out takes the output of the layer before.
LAYER = Kind(
    name="presence",
    key="left_out",
    base=lambda shape: 1,
    tensors=_without_layer,
    least=0,
    presence=True,
    entry="depth",
    label="layers",
    in_graphs=True,
)
OWN: Mapping[str, Kind] = {kind.key: kind for kind in (RANK, WIDTH, LAYER)}


def kind_named(key: str) -> Kind:
    """The kind of dimension with this key.

    Raises:
        InputError: No installed package registers it, or it keeps all weights of the base.
    """
    if key in OWN:
        return OWN[key]
    kind: Kind = extension(DIMENSIONS, key, kind="kind of dimension")
    if not kind.cuts:
        raise InputError(f"the kind of dimension {key!r} needs `tensors`: its work and memory follow from these parts")
    return kind


def all_kinds() -> list[Kind]:
    """Every kind of dimension."""
    return [*OWN.values(), *(kind_named(key) for key in sorted(extensions(DIMENSIONS)))]
