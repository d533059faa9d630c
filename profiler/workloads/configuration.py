"""Configurations of a base model: values of its dimensions, such as ranks at linears and widths of layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral
from typing import Any, Literal, get_args

from adaptare.core import InputError
from adaptare.profiler.workloads.dimension import Dimension, Kind
from adaptare.profiler.workloads.kinds import LAYER, RANK, WIDTH, kind_named
from adaptare.profiler.workloads.part import WHOLE, Part
from adaptare.profiler.workloads.shape import ModelShape, Site

AdapterKind = Literal["lora", "dora"]
NO_RANKS: Mapping[str, int] = {}


@dataclass(frozen=True)
class Configuration:
    """Values of dimensions; anything not given is as in the base model.

    Args:
        values: Pairs of dimension and value, in any order; kept sorted. Rank 0 means no adapter and is dropped, as is
            everything else in layers that are left out.
        kind: `lora` adds B A x, with any scale (rsLoRA differs in the scale only). `dora` also sets the norm of every
            row of W + B A, which PEFT computes in every call.

    References:
        Hu et al. 2022, "LoRA"; Liu et al. 2024, "DoRA: weight-decomposed low-rank adaptation".
    """

    values: tuple[tuple[Dimension, int], ...] = ()
    kind: AdapterKind = "lora"

    def __post_init__(self) -> None:
        if self.kind not in get_args(AdapterKind):
            raise InputError(f"kind must be one of {', '.join(get_args(AdapterKind))}, not {self.kind!r}")
        if len({dimension for dimension, _ in self.values}) < len(self.values):
            raise InputError("a dimension is named twice in a configuration")
        for dimension, value in self.values:
            if type(value) is not int or value < dimension.kind.least:
                raise InputError(f"{dimension} must be a whole number from {dimension.kind.least}, not {value!r}")
            if dimension.kind.presence and value > 1:
                raise InputError(f"{dimension} must be 0 or 1, not {value}")
        gone = {dimension.layer for dimension, value in self.values if dimension.kind == LAYER and value == 0}
        kept = [pair for pair in self.values if _is_set(*pair) and (pair[0].kind == LAYER or pair[0].layer not in gone)]
        object.__setattr__(self, "values", tuple(sorted(kept, key=lambda pair: pair[0].order)))

    @classmethod
    def of(
        cls,
        ranks: Mapping[str, int] = NO_RANKS,
        *,
        widths: Mapping[int, int] | None = None,
        kind: AdapterKind = "lora",
        left_out: Sequence[int] = (),
        others: Mapping[Dimension, int] | None = None,
    ) -> "Configuration":
        """Creates one from mappings.

        Args:
            ranks: Module path -> rank.
            widths: Layer -> intermediate size.
            kind: Kind of adapter.
            left_out: Layers to leave out.
            others: Further dimensions -> value.
        """
        named: list[tuple[Kind, Mapping[Any, int]]] = [(RANK, ranks), (WIDTH, widths or {})]
        pairs = [(kind_of(_plain(place)), value) for kind_of, values in named for place, value in values.items()]
        pairs += [(LAYER(_plain(layer)), 0) for layer in left_out]
        pairs += (others or {}).items()
        return cls(tuple((dimension, _plain(value)) for dimension, value in pairs), kind)

    @classmethod
    def uniform(cls, shape: ModelShape, rank: int, *, kinds: tuple[str, ...] = ()) -> "Configuration":
        """The same rank on every site, or on the sites of the given kinds (`q_proj`, …)."""
        return cls.of({site.path: rank for site in shape.sites if not kinds or site.kind in kinds}).on(shape)

    @cached_property
    def kinds(self) -> Mapping[Kind, Mapping[Any, int]]:
        """Kind of dimension -> place -> value."""
        kinds: dict[Kind, dict[Any, int]] = {}
        for dimension, value in self.values:
            kinds.setdefault(dimension.kind, {})[dimension.place] = value
        return kinds

    @property
    def by_path(self) -> Mapping[str, int]:
        """Module path -> rank."""
        return self.kinds.get(RANK, {})

    @property
    def ranks(self) -> tuple[tuple[str, int], ...]:
        """Pairs of module path and rank."""
        return tuple(self.by_path.items())

    @property
    def by_layer(self) -> Mapping[int, int]:
        """Layer -> intermediate size, for layers that differ from the base."""
        return self.kinds.get(WIDTH, {})

    @property
    def left_out(self) -> tuple[int, ...]:
        """Layers that the model lacks, ascending."""
        return tuple(self.kinds.get(LAYER, ()))

    def describe(self) -> str:
        """For people: how many linears have which ranks, by kind, and how many layers are narrower or left out."""
        ordered = sorted(self.kinds.items(), key=lambda each: (each[0].cuts, each[0].presence))
        return ", ".join(words for kind, values in ordered for words in kind.in_words(values)) or "base"

    @property
    def without_adapter(self) -> "Configuration":
        """The configuration without the ranks: the base that the adapter is for."""
        return Configuration(tuple(pair for pair in self.values if pair[0].kind.cuts))

    def with_ranks(self, ranks: Mapping[str, int]) -> "Configuration":
        """The configuration with other ranks, by module path."""
        return Configuration.of(ranks, kind=self.kind, others=dict(self.without_adapter.values))

    @property
    def cuts_base(self) -> bool:
        """True if weights of the base are left out."""
        return any(kind.cuts for kind in self.kinds)

    def kept(self, layers: int) -> tuple[int, ...]:
        """Layers that stay of a number of layers, ascending."""
        return tuple(layer for layer in range(layers) if layer not in self.left_out)

    def share_kept(self, kind: Kind, shape: ModelShape) -> float:
        """Sum of the values of a kind that cuts the base, over all kept layers, as a share of the base's."""
        base, values, kept = kind.base(shape), self.kinds.get(kind, {}), self.kept(shape.layers)
        return sum(values.get(layer, base) for layer in kept) / (base * shape.layers)

    def parts(self, shape: ModelShape) -> dict[str, Part]:
        """Module path -> part that stays, for the linears of the kept layers that are smaller than in the base."""
        return {path: part for path, part in self._cut(shape).items() if not part.is_empty}

    def sites(self, shape: ModelShape) -> tuple[Site, ...]:
        """Every linear of the kept layers at its configured size, in the order of `ModelShape.sites`."""
        if not self.cuts_base:
            return shape.sites
        cut = self._cut(shape)
        sites = ((site, cut.get(site.path, WHOLE)) for site in shape.sites)
        return tuple(part.of(site) for site, part in sites if not part.is_empty)

    def _cut(self, shape: ModelShape) -> dict[str, Part]:
        parts: dict[str, Part] = {}
        for dimension, value in self.values:
            for path, part in dimension.kind.tensors(shape, dimension.place, value).items():
                parts[path] = parts.get(path, WHOLE) & part
        return parts

    def on(self, shape: ModelShape) -> "Configuration":
        """The configuration for one base model, without values that equal the base's.

        Raises:
            InputError: The shape lacks a site or layer, no layer is left, or a value is larger than the base allows.
        """
        differing = tuple(pair for pair in self.values if pair[1] != pair[0].kind.base(shape))
        here = self if len(differing) == len(self.values) else replace(self, values=differing)
        cuts = [pair for pair in self.values if pair[0].kind.cuts]
        for dimension, value in cuts:
            dimension.check(value, shape, shape.site_by_path)
        if len(here.left_out) == shape.layers:
            raise InputError(f"all {shape.layers} layers are left out; leave out at most {shape.layers - 1}")
        sites = {site.path: site for site in here.sites(shape)} if cuts else shape.site_by_path
        for dimension, value in self.values:
            dimension.check(value, shape, sites)
        return here

    def of_layers(self, shape: ModelShape) -> list["Configuration"]:
        """Configuration of each kept layer, moved to the first layer."""
        own: dict[int, list[tuple[Dimension, int]]] = {layer: [] for layer in self.kept(shape.layers)}
        for dimension, value in self.values:
            if dimension.layer in own:
                own[dimension.layer].append((dimension.at(0), value))
        return [Configuration(tuple(values), self.kind) for values in own.values()]

    def in_layers(self, layers: int) -> "Configuration":
        """The values of the first layer, in each of a number of layers."""
        repeated = ((dimension.at(layer), value) for dimension, value in self.values for layer in range(layers))
        return replace(self, values=tuple(repeated))

    def transformers_fields(self, shape: ModelShape) -> dict[str, Any]:
        """Fields of the transformers config of a model cut like this that differ from the base's, except its layers.

        Raises:
            InputError: Layers differ, or a transformers model cannot be cut like this.
        """
        fields: dict[str, Any] = {}
        for kind, values in self.kinds.items():
            if not kind.cuts or kind.presence:
                continue
            numbers = {values.get(layer, kind.base(shape)) for layer in self.kept(shape.layers)}
            if len(numbers) > 1 or kind.config is None:
                listed = ", ".join(map(str, sorted(numbers)))
                raise InputError(
                    f"a transformers model has one {kind.name} in all layers, and this one has {listed}; export it for "
                    f"ONNX Runtime, as onnx, or choose a winner of one {kind.name}"
                )
            fields |= kind.config(shape, numbers.pop())
        return fields

    def adapter_parameters(self, shape: ModelShape) -> int:
        """Weights in all A and B matrices, and the row norms of DoRA."""
        sites = [(site, self.by_path[site.path]) for site in self.sites(shape) if site.path in self.by_path]
        lengths = sum(site.out_features for site, _ in sites) if self.kind == "dora" else 0
        return lengths + sum(rank * (site.in_features + site.out_features) for site, rank in sites)

    def to_json(self) -> dict[str, Any]:
        """Ranks by module path; other dimensions and the kind of adapter where they differ from the base's."""
        adapter = {} if self.kind == "lora" else {"kind": self.kind}
        return {RANK.key: {}, **{kind.key: kind.to_json(values) for kind, values in self.kinds.items()}, **adapter}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Configuration":
        """Inverse of `to_json`.

        Raises:
            InputError: The content is malformed, or no installed package registers one of its kinds of dimensions.
        """
        kinds = {kind_named(key): values for key, values in content.items() if key != "kind"}
        values = [pair for kind, each in kinds.items() for pair in kind.from_json(each).items()]
        return cls(tuple(values), content.get("kind", "lora"))


def _is_set(dimension: Dimension, value: int) -> bool:
    """False for a value that every base has."""
    return value == 0 if dimension.kind.presence else dimension.kind.cuts or value > 0


def _plain(number: Any) -> Any:
    """An integer of NumPy as one of Python. Others are returned as they are, and refused by the constructor."""
    return int(number) if isinstance(number, Integral) and not isinstance(number, bool) else number
