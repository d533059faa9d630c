"""Dimensions of a configuration: one number each, such as the rank at a linear, and the weights that stay with it."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from adaptare.core import InputError
from adaptare.profiler.workloads.part import Part
from adaptare.profiler.workloads.shape import ModelShape, Site, in_layer, layer_of

# Module path of a linear, or number of a decoder layer.
Place = str | int


def no_cut(shape: ModelShape, place: Place, value: int) -> Mapping[str, Part]:
    """Slices of a dimension that keeps all weights of the base."""
    return {}


@dataclass(frozen=True)
class Kind:
    """A kind of dimension: the meaning of its numbers for the weights of a base model.

    Calling it with a place gives the dimension there. Kinds of other packages are entry points in the group
    `adaptare.dimensions`, named by `key`.

    Args:
        name: Word for one of them, such as `width`; kinds are compared by it.
        key: Name of the values in JSON, such as `widths`.
        base: Value in the base model.
        tensors: Shape, place and value -> module path of each linear that becomes smaller -> the part that stays.
        least: Smallest value.
        largest: Shape and linears of the smaller model -> largest value at a linear; default: that of the base.
        of_linears: True if places are linears; else they are layers.
        presence: True if values are 1 (kept) and 0 (left out). An axis of several sets the number kept, and leaves out
            the first of its dimensions.
        entry: Name of the choices in an entry of a space file; default: `key`.
        label: Short word for descriptions and features; default: `name`.
        config: Shape and value -> fields of the transformers config of a model with this value in every layer; `None`
            if no transformers config says that.
        in_graphs: True if ONNX graphs can be cut like this.
        describe: Values by place -> descriptions for people; default: their range and number.
    """

    name: str
    key: str = field(compare=False)
    base: Callable[[ModelShape], int] = field(compare=False, repr=False)
    tensors: Callable[[ModelShape, Any, int], Mapping[str, Part]] = field(default=no_cut, compare=False, repr=False)
    least: int = field(default=1, compare=False, repr=False)
    largest: Callable[[Site], int] | None = field(default=None, compare=False, repr=False)
    of_linears: bool = field(default=False, compare=False, repr=False)
    presence: bool = field(default=False, compare=False, repr=False)
    entry: str = field(default="", compare=False, repr=False)
    label: str = field(default="", compare=False, repr=False)
    config: Callable[[ModelShape, int], Mapping[str, Any]] | None = field(default=None, compare=False, repr=False)
    in_graphs: bool = field(default=False, compare=False, repr=False)
    describe: Callable[[Mapping[Any, int]], list[str]] | None = field(default=None, compare=False, repr=False)

    def __call__(self, place: Place) -> "Dimension":
        """The dimension of this kind at a place."""
        return Dimension(self, place)

    @property
    def cuts(self) -> bool:
        """True if weights of the base may go."""
        return self.tensors is not no_cut

    def all(self, shape: ModelShape) -> "tuple[Dimension, ...]":
        """Dimensions of every place."""
        return tuple(Dimension(self, place) for place in self.places(shape))

    def places(self, shape: ModelShape) -> Collection[Place]:
        """Paths of all linears, or numbers of all layers."""
        return shape.site_by_path if self.of_linears else range(shape.layers)

    def in_words(self, values: Mapping[Place, int]) -> list[str]:
        """Descriptions of values by place, for people."""
        if self.describe:
            return self.describe(values)
        if self.presence:
            return [f"without {self.label or self.name} {', '.join(map(str, values))}"]
        return [f"{self.label or self.name} {range_of(values.values())} x{len(values)}"]

    def to_json(self, values: Mapping[Place, int]) -> Any:
        """JSON of values by place: what is left out, or value by place."""
        return list(values) if self.presence else {str(place): value for place, value in values.items()}

    def from_json(self, content: Any) -> "dict[Dimension, int]":
        """Inverse of `to_json`. Raises `InputError` for other content."""
        known = (list, tuple) if self.presence else Mapping
        if not isinstance(content, known):
            raise InputError(f"{self.key} must be a {'list' if self.presence else 'mapping'}, not {content!r:.80}")
        pairs = content.items() if isinstance(content, Mapping) else [(place, 0) for place in content]
        try:
            return {self(place if self.of_linears else int(place)): value for place, value in pairs}
        except (TypeError, ValueError) as error:
            raise InputError(f"{self.key} must name layers by number, not {content!r:.80}") from error


@dataclass(frozen=True)
class Dimension:
    """One number of a configuration.

    Args:
        kind: Meaning of the number.
        place: Module path of its linear, or number of its layer.
    """

    kind: Kind
    place: Any

    def __post_init__(self) -> None:
        if not self.kind.of_linears and (type(self.place) is not int or self.place < 0):
            raise InputError(f"a {self.kind.name} is of a layer, a whole number from 0, not of {self.place!r}")

    def __hash__(self) -> int:
        return hash((self.kind.name, self.place))

    @cached_property
    def layer(self) -> int:
        """Number of its decoder layer."""
        return layer_of(self.place) if self.kind.of_linears else int(self.place)

    @property
    def order(self) -> tuple[str, Place]:
        """Sort key: by kind, then by place."""
        return self.kind.name, self.place

    def __str__(self) -> str:
        return f"{self.kind.name} of {'' if self.kind.of_linears else 'layer '}{self.place}"

    def at(self, layer: int) -> "Dimension":
        """The same dimension of another layer."""
        return Dimension(self.kind, in_layer(self.place, layer) if self.kind.of_linears else layer)

    def largest(self, shape: ModelShape, sites: Mapping[str, Site]) -> int:
        """Largest value, given the shape of the base and the linears of the smaller model by path."""
        return self.kind.largest(sites[self.place]) if self.kind.largest else self.kind.base(shape)

    def check(self, value: int, shape: ModelShape, sites: Mapping[str, Site]) -> None:
        """Raises `InputError` unless the base model has this place and allows the value.

        Args:
            value: Value to check.
            shape: Shape of the base model.
            sites: Linears of the smaller model, by path.
        """
        if self.place not in self.kind.places(shape) or (self.kind.of_linears and self.place not in sites):
            what, first = ("linear", f"its first is {shape.sites[0].path!r}")
            if not self.kind.of_linears:
                what, first = "layer", f"its layers are 0 to {shape.layers - 1}"
            raise InputError(f"{self.kind.name}: the base model has no {what} {self.place!r}; {first}")
        largest = self.largest(shape, sites)
        if not self.kind.least <= value <= largest:
            raise InputError(f"{self} must be {self.kind.least} to {largest} in this base model, not {value}")


def range_of(numbers: Collection[int]) -> str:
    """Smallest and largest, such as 4-16."""
    return "-".join(str(number) for number in dict.fromkeys((min(numbers), max(numbers))))
