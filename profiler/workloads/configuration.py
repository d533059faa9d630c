"""Configurations of a base model: ranks of adapters on its linears, widths of its MLPs, and layers left out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral
from typing import Any, Literal, get_args

from adaptare.core import InputError
from adaptare.profiler.workloads.depth import Depth
from adaptare.profiler.workloads.shape import Column, MlpWidth, ModelShape, Site, first_layer, layer_of

AdapterKind = Literal["lora", "dora"]


@dataclass(frozen=True)
class Configuration:
    """Ranks per site, widths per layer, and layers left out; anything not given is as in the base model.

    Args:
        ranks: Pairs of module path and rank, in any order; kept sorted by path. Rank 0 means no adapter and is dropped.
        widths: Pairs of layer and intermediate size of its MLP, in any order; kept sorted by layer. Layers that are not
            listed have the size of the base.
        kind: `lora` adds B A x, with any scale (rsLoRA differs in the scale only). `dora` also sets the norm of every
            row of W + B A, which PEFT computes in every call.
        left_out: Layers that the model lacks: the layer after takes the output of the layer before. Kept sorted; ranks
            and widths of these layers are dropped.

    References:
        Hu et al. 2022, "LoRA"; Liu et al. 2024, "DoRA: weight-decomposed low-rank adaptation".
    """

    ranks: tuple[tuple[str, int], ...] = ()
    widths: tuple[tuple[int, int], ...] = ()
    kind: AdapterKind = "lora"
    left_out: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in get_args(AdapterKind):
            raise InputError(f"kind must be one of {', '.join(get_args(AdapterKind))}, not {self.kind!r}")
        _check_different("site", (path for path, _ in self.ranks))
        _check_different("layer", (layer for layer, _ in self.widths))
        _check_different("layer to leave out", self.left_out)
        for path, rank in self.ranks:
            if type(rank) is not int or rank < 0:
                raise InputError(f"rank of {path} must be a whole number from 0, not {rank!r}")
        for layer, width in self.widths:
            if type(layer) is not int or type(width) is not int or layer < 0 or width < 1:
                raise InputError(
                    f"a width is a layer, from 0, and its intermediate size, from 1, not {layer!r} and {width!r}"
                )
        if wrong := [layer for layer in self.left_out if type(layer) is not int or layer < 0]:
            raise InputError(f"a layer to leave out is a whole number from 0, not {wrong[0]!r}")
        gone = set(self.left_out)
        ranks = (pair for pair in self.ranks if pair[1] and not (gone and layer_of(pair[0]) in gone))
        object.__setattr__(self, "ranks", tuple(sorted(ranks)))
        object.__setattr__(self, "widths", tuple(sorted(pair for pair in self.widths if pair[0] not in gone)))
        object.__setattr__(self, "left_out", tuple(sorted(gone)))

    @classmethod
    def of(
        cls,
        ranks: Mapping[str, int],
        *,
        widths: Mapping[int, int] | None = None,
        kind: AdapterKind = "lora",
        left_out: Sequence[int] = (),
    ) -> "Configuration":
        """Creates one from mappings, module path -> rank and layer -> intermediate size, and layers to leave out."""
        pairs = tuple((path, _plain(rank)) for path, rank in ranks.items())
        sizes = tuple((int(layer), _plain(width)) for layer, width in (widths or {}).items())
        return cls(pairs, sizes, kind, tuple(map(_plain, left_out)))

    @classmethod
    def uniform(cls, shape: ModelShape, rank: int, *, kinds: tuple[str, ...] = ()) -> "Configuration":
        """The same rank on every site, or on the sites of the given kinds (`q_proj`, …)."""
        return cls.of({site.path: rank for site in shape.sites if not kinds or site.kind in kinds}).on(shape)

    @cached_property
    def by_path(self) -> Mapping[str, int]:
        """Module path -> rank."""
        return dict(self.ranks)

    @cached_property
    def by_layer(self) -> Mapping[int, int]:
        """Layer -> intermediate size, for layers that differ from the base."""
        return dict(self.widths)

    @classmethod
    def of_codes(cls, columns: Sequence[Column], codes: Sequence[int]) -> "Configuration":
        """Creates one from one number per column: a rank, a width, or the number of layers. Inverse of `codes`."""
        pairs = list(zip(columns, (int(code) for code in codes), strict=True))
        ranks = {column.path: code for column, code in pairs if isinstance(column, Site)}
        widths = {c.layer: code for c, code in pairs if isinstance(c, MlpWidth) and code != c.largest}
        left_out = next((column.left_out(code) for column, code in pairs if isinstance(column, Depth)), ())
        return cls.of(ranks, widths=widths, left_out=left_out)

    def codes(self, columns: Sequence[Column]) -> tuple[int, ...]:
        """Rank, width or number of layers of each column; 0 and those of the base where not set."""

        def code(column: Column) -> int:
            if isinstance(column, Site):
                return self.by_path.get(column.path, 0)
            if isinstance(column, MlpWidth):
                return self.by_layer.get(column.layer, column.largest)
            return column.largest - len(self.left_out)

        return tuple(map(code, columns))

    def to_json(self) -> dict[str, Any]:
        """Ranks by module path; and widths by layer, layers left out and the kind where they differ from the base's."""
        widths = {str(layer): width for layer, width in self.widths}
        others = {"widths": widths, "left_out": list(self.left_out), "kind": self.kind if self.kind != "lora" else ""}
        return {"ranks": dict(self.ranks), **{name: value for name, value in others.items() if value}}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Configuration":
        """Inverse of `to_json`."""
        return cls.of(content["ranks"], **{name: value for name, value in content.items() if name != "ranks"})

    def describe(self) -> str:
        """For people: how many linears have which ranks, by kind, and how many layers are narrower or left out."""
        kinds: dict[str, list[int]] = {}
        for path, rank in self.ranks:
            kinds.setdefault(path.rsplit(".", 1)[-1].removesuffix("_proj"), []).append(rank)
        parts = [f"{kind} {_range(ranks)} x{len(ranks)}" for kind, ranks in kinds.items()]
        widths = [width for _, width in self.widths]
        parts += [f"MLP {_range(widths)} x{len(widths)}"] if widths else []
        parts += [f"without layers {', '.join(map(str, self.left_out))}"] if self.left_out else []
        return ", ".join(parts) or "base"

    @property
    def without_adapter(self) -> "Configuration":
        """The widths and layers without the ranks."""
        return Configuration(widths=self.widths, left_out=self.left_out)

    @property
    def cuts_base(self) -> bool:
        """True if layers of the base are narrower or left out."""
        return bool(self.widths or self.left_out)

    def kept(self, layers: int) -> tuple[int, ...]:
        """Layers that stay of a number of layers, ascending."""
        return tuple(layer for layer in range(layers) if layer not in self.left_out)

    def sites(self, shape: ModelShape) -> tuple[Site, ...]:
        """Every linear of the kept layers at its configured width, in the order of `ModelShape.sites`."""
        sites = shape.sites_with(self.by_layer) if self.widths else shape.sites
        return tuple(site for site in sites if site.layer not in self.left_out) if self.left_out else sites

    def on(self, shape: ModelShape) -> "Configuration":
        """The configuration for one base model, without widths that equal the base's.

        Raises:
            InputError: A site or layer is not in the shape, no layer is left, a layer is wider than the base's, or a
                rank exceeds the smaller dimension of its linear.
        """
        if self.left_out and (last := self.left_out[-1]) >= shape.layers:
            raise InputError(f"layer {last} cannot be left out: the base model has layers 0 to {shape.layers - 1}")
        if len(self.left_out) == shape.layers:
            raise InputError(f"all {shape.layers} layers are left out; leave out at most {shape.layers - 1}")
        if wrong := next((pair for pair in self.widths if pair[0] >= shape.layers), None):
            raise InputError(f"the base model has no layer {wrong[0]}; its layers are 0 to {shape.layers - 1}")
        if wrong := next((pair for pair in self.widths if pair[1] > shape.intermediate), None):
            raise InputError(
                f"width {wrong[1]} of layer {wrong[0]} is larger than that of the base model; use at most "
                f"{shape.intermediate}"
            )
        narrower = tuple(pair for pair in self.widths if pair[1] < shape.intermediate)
        here = self if narrower == self.widths else replace(self, widths=narrower)
        sites = shape.site_by_path if not narrower else {site.path: site for site in here.sites(shape)}
        for path, rank in self.ranks:
            site = sites.get(path)
            if site is None:
                raise InputError(f"the base model has no linear {path!r}; its first is {shape.sites[0].path!r}")
            if rank > site.largest_rank:
                raise InputError(
                    f"rank {rank} is larger than {path}, which is {site.in_features} x {site.out_features}; "
                    f"use at most {site.largest_rank}"
                )
        return here

    def of_layers(self, shape: ModelShape) -> list["Configuration"]:
        """Configuration of each kept layer, moved to the first layer."""
        ranks: dict[int, dict[str, int]] = {layer: {} for layer in self.kept(shape.layers)}
        for path, rank in self.ranks:
            ranks[shape.site_by_path[path].layer][first_layer(path)] = rank
        widths = {layer: {0: width} for layer, width in self.widths}
        return [Configuration.of(own, widths=widths.get(layer), kind=self.kind) for layer, own in ranks.items()]

    def adapter_parameters(self, shape: ModelShape) -> int:
        """Weights in all A and B matrices, and the row norms of DoRA."""
        sites = [(site, self.by_path[site.path]) for site in self.sites(shape) if site.path in self.by_path]
        lengths = sum(site.out_features for site, _ in sites) if self.kind == "dora" else 0
        return lengths + sum(rank * (site.in_features + site.out_features) for site, rank in sites)


def _plain(number: int) -> int:
    """An integer of NumPy as one of Python. Others are returned as they are, and refused by the constructor."""
    return int(number) if isinstance(number, Integral) else number


def _check_different(what: str, named: Iterable[str | int]) -> None:
    seen = list(named)
    if len(set(seen)) != len(seen):
        raise InputError(f"a {what} is named twice in a configuration")


def _range(numbers: Sequence[int]) -> str:
    """Smallest and largest, such as 4-16."""
    return "-".join(str(number) for number in dict.fromkeys((min(numbers), max(numbers))))
