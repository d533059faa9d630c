"""Depth of a model: decoder layers that are left out, so that the layer after takes the output of the layer before."""

from collections.abc import Mapping

from adaptare.profiler.workloads.dimension import Kind
from adaptare.profiler.workloads.part import NOTHING, Part
from adaptare.profiler.workloads.shape import ModelShape


def _without_layer(shape: ModelShape, layer: int, value: int) -> Mapping[str, Part]:
    return {} if value else {f"model.layers.{layer}.{name}": NOTHING for name, *_ in shape.linears}


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


def even_order(layers: int) -> tuple[int, ...]:
    """An order that needs no data: layers far from those left out before, later ones first; the two ends at last."""
    inner, order = list(range(1, layers - 1)), list[int]()
    while inner:
        gone = (-1, layers, *order)
        order.append(max(inner, key=lambda layer: (min(abs(layer - other) for other in gone), layer)))
        inner.remove(order[-1])
    return (*order, *dict.fromkeys((layers - 1, 0)))
