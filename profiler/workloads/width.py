"""Width of the MLP of a decoder layer: it keeps its first neurons."""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from adaptare.profiler.workloads.dimension import Kind
from adaptare.profiler.workloads.part import Part
from adaptare.profiler.workloads.shape import ModelShape


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


WIDTH = Kind(
    name="width",
    key="widths",
    base=lambda shape: shape.intermediate,
    tensors=_first_neurons,
    label="MLP",
    config=lambda shape, width: {"intermediate_size": width},
    in_graphs=True,
)
