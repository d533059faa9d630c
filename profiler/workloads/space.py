"""Spaces of configurations, and their points: integer arrays that search algorithms choose from."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.profiler.workloads.configuration import Configuration
from adaptare.profiler.workloads.dimension import Dimension, Kind
from adaptare.profiler.workloads.shape import ModelShape, Site

Points = NDArray[np.int64]
Codes = NDArray[np.int64]
# With shares drawn this far beyond 0 and 1, one in seven of a kind of linear is 0, and one is 1.
BEYOND = 0.2


@dataclass(frozen=True)
class Axis:
    """One axis of a space: a number that sets all of its dimensions.

    The number is the value of each of them; of dimensions that are kept or left out, such as layers, it is the number
    kept, and the first of them are left out.

    Args:
        name: Display name, such as `rank of layer 3 mlp` or `width of all layers`.
        choices: Allowed numbers, ascending: ranks, of which 0 is no adapter, intermediate sizes, or numbers of layers.
        dimensions: Dimensions of one kind.
    """

    name: str = field(compare=False)
    choices: tuple[int, ...]
    dimensions: tuple[Dimension, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "choices", tuple(int(choice) for choice in self.choices))
        object.__setattr__(self, "dimensions", tuple(self.dimensions))
        if len({each.kind for each in self.dimensions}) != 1:
            raise InputError(f"the axis {self.name!r} must set dimensions of one kind, and at least one")

    @property
    def kind(self) -> Kind:
        """Kind of its dimensions."""
        return self.dimensions[0].kind

    def values(self, codes: Codes) -> Codes:
        """Values of its dimensions. Shape (...) -> (..., n_dimensions)."""
        n = len(self.dimensions)
        if not self.kind.presence:
            return np.repeat(codes[..., None], n, axis=-1)
        return (np.arange(n) >= n - codes[..., None]).astype(np.int64)

    def code(self, values: Sequence[int]) -> int:
        """Number that gives these values, one for each of its dimensions.

        Raises:
            InputError: No number does: dimensions of one axis are equal, or left out in its order.
        """
        code = sum(values) if self.kind.presence else values[0]
        if self.values(np.array([code]))[0].tolist() != list(values):
            first = ", ".join(str(each.place) for each in self.dimensions[: len(values) - code])
            rule = f"leaves out {first} first" if self.kind.presence else "ties its dimensions to one value"
            given = [each.place for each, value in zip(self.dimensions, values, strict=True) if not value]
            what = f"leaves out {', '.join(map(str, given))}" if self.kind.presence else f"has {sorted(set(values))}"
            raise InputError(f"{self.name} {rule}, and the configuration {what}")
        return code


@dataclass(frozen=True)
class Space:
    """Configurations of a base model: numbers of axes, each of which sets some dimensions.

    A point has one integer for each axis, the index of its choice: shape (n_axes,). Search algorithms see only points.
    `at` gives the values of all dimensions at a point, its codes, and `decode` makes them a configuration. Dimensions
    that share an axis are tied here and nowhere else.

    Args:
        name: Name or file of the space.
        shape: Shape of the base model.
        axes: Each dimension belongs to exactly one.
    """

    name: str
    shape: ModelShape = field(repr=False)
    axes: tuple[Axis, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "axes", tuple(self.axes))
        if len(set(self.dimensions)) < len(self.dimensions):
            raise InputError(f"a dimension of the space {self.name!r} belongs to two axes")

    @property
    def n_axes(self) -> int:
        """Number of axes."""
        return len(self.axes)

    @cached_property
    def dimensions(self) -> tuple[Dimension, ...]:
        """Dimensions of all axes: meaning of the columns of codes."""
        return tuple(each for axis in self.axes for each in axis.dimensions)

    @cached_property
    def kinds(self) -> tuple[Kind, ...]:
        """Kinds of its dimensions."""
        return tuple(dict.fromkeys(axis.kind for axis in self.axes))

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        """Linears that have a rank in this space, in the order of the shape."""
        paths = {each.place for each in self.dimensions if each.kind.of_linears}
        return tuple(site for site in self.shape.sites if site.path in paths)

    @property
    def cuts_base(self) -> bool:
        """True if weights of the base may be left out, so that a configuration may be faster than the base."""
        return any(kind.cuts for kind in self.kinds)

    @property
    def removal_order(self) -> tuple[int, ...]:
        """Layers in the order in which they are left out; empty if all stay."""
        return tuple(each.place for axis in self.axes if axis.kind.presence for each in axis.dimensions)

    def leaving_out(self, order: Sequence[int]) -> "Space":
        """The space with another order in which layers are left out. Raises `InputError` if it is of other layers."""
        if not self.removal_order:
            return self
        if sorted(order) != sorted(self.removal_order):
            layers = ", ".join(map(str, sorted(self.removal_order)))
            raise InputError(f"an order of layers must be a permutation of {layers}, not {list(order)}")
        axes = (
            replace(axis, dimensions=tuple(axis.kind(layer) for layer in order)) if axis.kind.presence else axis
            for axis in self.axes
        )
        return replace(self, axes=tuple(axes))

    @cached_property
    def n_choices(self) -> Codes:
        """Number of choices of each axis. Shape (n_axes,)."""
        return np.array([len(axis.choices) for axis in self.axes], dtype=np.int64)

    @property
    def highest(self) -> Codes:
        """The point of the largest choices. Shape (n_axes,)."""
        return self.n_choices - 1

    @cached_property
    def base(self) -> Codes:
        """Codes of the base model: no adapter, original widths and depth. Shape (n_codes,)."""
        return np.array([each.kind.base(self.shape) for each in self.dimensions], dtype=np.int64)

    def changes_base(self, codes: Codes) -> NDArray[np.bool_]:
        """True for configurations with an adapter, or with narrower or fewer layers. Shape (..., n_codes) -> (...)."""
        changed: NDArray[np.bool_] = (codes != self.base).any(axis=-1)
        return changed

    def has_adapter(self, codes: Codes) -> NDArray[np.bool_]:
        """True for configurations with a rank above 0 on some site. Shape (..., n_codes) -> (...)."""
        ranked = np.array([not each.kind.cuts for each in self.dimensions], dtype=np.bool_)
        adapted: NDArray[np.bool_] = np.any(codes[..., ranked] > 0, axis=-1)
        return adapted

    @property
    def at_largest_ranks(self) -> "Space":
        """The space without ranks to choose: they cost nothing where adapters are merged into the weights."""
        axes = (axis if axis.kind.cuts else replace(axis, choices=axis.choices[-1:]) for axis in self.axes)
        return replace(self, axes=tuple(axes))

    @property
    def untied(self) -> "Space":
        """The space with an axis for each linear; codes are the same."""

        def apart(axis: Axis) -> list[Axis]:
            return [replace(axis, name=str(each), dimensions=(each,)) for each in axis.dimensions]

        axes = (apart(axis) if axis.kind.of_linears else [axis] for axis in self.axes)
        return replace(self, axes=tuple(chain.from_iterable(axes)))

    def at(self, points: Points) -> Codes:
        """Codes at points. Shape (..., n_axes) -> (..., n_codes).

        Layers that are left out have no adapter, and the width of the base.

        Raises:
            InputError: The points are not of this space.
        """
        points = np.asarray(points, dtype=np.int64)
        if points.shape[-1:] != (self.n_axes,) or np.any((points < 0) | (points >= self.n_choices)):
            below = self.n_choices.tolist()
            raise InputError(
                f"a point of the space {self.name!r} has {self.n_axes} numbers from 0 to below {below}; got an array "
                f"of shape {points.shape} with {np.unique(points).tolist()}"
            )
        chosen = [axis.values(np.array(axis.choices)[points[..., number]]) for number, axis in enumerate(self.axes)]
        codes = np.concatenate(chosen, axis=-1)
        layers = np.array([each.layer for each in self.dimensions])
        for number, dimension in enumerate(self.dimensions):
            if dimension.kind.presence:
                others = layers == dimension.layer
                others[number] = False
                codes[..., others] = np.where(codes[..., [number]] == 0, self.base[others], codes[..., others])
        return codes

    def distinct(self, codes: Codes) -> Codes:
        """The different rows, sorted by linears in the order of the shape, then by layers. Shape (n, n_codes)."""
        position = {site.path: number for number, site in enumerate(self.shape.sites)}
        columns = np.argsort([position.get(each.place, len(position) + each.layer) for each in self.dimensions])
        return np.unique(codes[:, columns], axis=0)[:, np.argsort(columns)]

    def decode(self, codes: Codes | Sequence[int]) -> Configuration:
        """The configuration of one row of codes, shape (n_codes,)."""
        pairs = zip(self.dimensions, (int(code) for code in codes), strict=True)
        base = self.base.tolist()
        return Configuration(tuple(pair for pair, usual in zip(pairs, base, strict=True) if pair[1] != usual))

    def encode(self, configuration: Configuration) -> Codes:
        """Codes of a configuration, shape (n_codes,). Values need not be among the choices.

        Raises:
            InputError: The configuration sets a dimension outside the space, or leaves out layers in another order.
        """
        given = dict(configuration.values)
        known = set(self.dimensions)
        if outside := next((each for each in given if each not in known), None):
            raise InputError(f"the space {self.name!r} does not set the {outside}")
        for axis in self.axes:
            if axis.kind.presence:
                axis.code([given.get(each, 1) for each in axis.dimensions])
        values = [given.get(each, usual) for each, usual in zip(self.dimensions, self.base.tolist(), strict=True)]
        return np.array(values, dtype=np.int64)

    def sample(self, n: int, rng: np.random.Generator) -> Points:
        """Points drawn uniformly from the choices. Shape (n, n_axes)."""
        return rng.integers(0, self.n_choices, size=(n, self.n_axes))

    def spread(self, n: int, rng: np.random.Generator, *, by_kind: bool = False) -> Points:
        """Points spread from few to many sites, and from low to high ranks, widths and depths. Shape (n, n_axes).

        Independent uniform choices concentrate around one total cost; a predictor needs the whole range. So the share
        of axes with an adapter, and the mean position within the choices, are drawn from a Latin hypercube, one point
        per row.

        Args:
            n: Number of points.
            rng: Source of the draws.
            by_kind: True for a share and a position of each kind of linear, and of each kind of cut, by itself. Of one
                share for all, adapters on few kinds, in most layers, are never drawn.
        """
        points = np.empty((n, self.n_axes), dtype=np.int64)
        for axes in self._axes_by_kind if by_kind else [np.arange(self.n_axes)]:
            points[:, axes] = self._spread_of(axes, n, rng, beyond=BEYOND if by_kind else 0.0)
        return points

    def _spread_of(self, axes: NDArray[np.int64], n: int, rng: np.random.Generator, *, beyond: float) -> Points:
        """Spread points of some axes; shares are drawn from beyond 0 and 1, and cut there. Shape (n, len(axes))."""
        share, level = ((rng.permuted(np.arange(n)) + rng.random(n)) / n for _ in range(2))
        share = (1 + 2 * beyond) * share - beyond
        points, n_choices = np.empty((n, len(axes)), dtype=np.int64), self.n_choices[axes]
        has_zero = np.array([self.axes[axis].choices[0] == 0 for axis in axes])
        lowest = has_zero.astype(np.int64)
        for row in range(n):
            # Beta(2 level, 2 - 2 level) has mean `level` and keeps some spread between the axes.
            height = rng.beta(max(2 * level[row], 1e-3), max(2 - 2 * level[row], 1e-3), size=len(axes))
            steps = np.minimum((height * (n_choices - lowest)).astype(np.int64), n_choices - lowest - 1)
            active = rng.random(len(axes)) < share[row]
            points[row] = np.where(active | ~has_zero, np.maximum(lowest + steps, 0), 0)
        return points

    @cached_property
    def _axes_by_kind(self) -> list[NDArray[np.int64]]:
        """Axes that set the same kinds of linears, such as those of the MLPs of all layers, or the same kind of cut."""
        kinds: dict[object, str] = {site.path: site.kind for site in self.shape.sites}
        sets = [frozenset(kinds.get(each.place, each.kind.key) for each in axis.dimensions) for axis in self.axes]
        return [np.array([axis for axis, own in enumerate(sets) if own == each]) for each in dict.fromkeys(sets)]
