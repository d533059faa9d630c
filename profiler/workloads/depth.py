"""Depth of a model: the number of decoder layers that it keeps, and the order in which the others are left out."""

from dataclasses import dataclass

from adaptare.core import InputError


@dataclass(frozen=True)
class Depth:
    """Number of decoder layers of a model, which may be smaller than the base's.

    Args:
        order: All layers of the base, in the order in which they are left out; the last one always stays.
    """

    order: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.order or sorted(self.order) != list(range(len(self.order))):
            raise InputError(f"an order of layers has each number from 0 once, not {list(self.order)}")

    @property
    def largest(self) -> int:
        """Layers of the base."""
        return len(self.order)

    def left_out(self, kept: int) -> tuple[int, ...]:
        """Layers left out of a model of a number of layers. Raises `InputError` if it is not 1 to `largest`."""
        if not 1 <= kept <= self.largest:
            raise InputError(f"a model cut from this base has 1 to {self.largest} layers, not {kept}")
        return tuple(sorted(self.order[: self.largest - kept]))


def even_order(layers: int) -> tuple[int, ...]:
    """An order that needs no data: layers far from those left out before, later ones first; the two ends at last."""
    inner, order = list(range(1, layers - 1)), list[int]()
    while inner:
        gone = (-1, layers, *order)
        order.append(max(inner, key=lambda layer: (min(abs(layer - other) for other in gone), layer)))
        inner.remove(order[-1])
    return (*order, *dict.fromkeys((layers - 1, 0)))
