"""Hardware demands of a configuration as features for a linear fit."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.profiler import RANK, Configuration, Kind, Workload
from adaptare.profiler.workloads import BYTES, Dimension, Site, all_kinds, linears_of

# Columns of the whole configuration, followed by `sites:KIND` and `bytes:KIND` for every kind of linear.
SITES, ADAPTER_BYTES, FLOPS = 0, 1, 2
# FLOPs of models of several widths or depths, and of adapters alone.
MODEL_FLOPS, ADAPTER_FLOPS = "flops", "adapter_flops"
# Start of the option of devices whose graphs have one product for q, k and v, split where one carries an adapter.
PACKS = "graph=packed-split"
PACKED_KINDS, SPLIT = ("q_proj", "k_proj", "v_proj"), "split:qkv_proj"
Values = NDArray[np.int64]
Array = NDArray[np.float64]


def dimensions_of(template: Workload, kinds: Collection[Kind]) -> tuple[Dimension, ...]:
    """Ranks of the linears that run, and dimensions of the given kinds in the layers that run."""
    base = template.base
    ranks = tuple(RANK(site.path) for site in base.scope_sites)
    cuts = sorted((kind for kind in kinds if kind.cuts), key=lambda kind: (kind.presence, kind.name))
    return (*ranks, *(each for kind in cuts for each in kind.all(base.shape) if each.layer < base.layers))


@dataclass(frozen=True)
class FeatureSet:
    """Physical features of configurations for one workload template.

    Adapter features count what the adapter adds to one call: its sites (linears with an adapter, each issuing separate
    kernels), bytes moved and FLOPs, and the first two again per kind of linear. All are zero if the adapter is merged
    into the base; with padded ranks every site counts the largest rank.

    Where graphs pack q, k and v, `split:qkv_proj` counts the layers with an adapter on any of them, where the result of
    their product is split.

    Where the base may be cut, the FLOPs are those added by the adapter less those saved in linears of the base. Each
    kind of cut has two more features, the savings of its linears in bytes and FLOPs (`mlp_bytes`, `mlp_flops` for
    widths). Layers left out have one instead, their number, for all else that they take: attention, norms and calls.
    Savings are 0 for the base and negative otherwise, so that a coefficient is never below zero.

    Args:
        template: The workload; its configuration is ignored.
        dimensions: Meaning of the columns of the values.
        packs: True if graphs pack q, k and v.
    """

    template: Workload
    dimensions: tuple[Dimension, ...] = field(repr=False)
    packs: bool = False

    @classmethod
    def of(
        cls, template: Workload, configurations: Sequence[Configuration], *, options: Collection[str] = ()
    ) -> "FeatureSet":
        """Features of all kinds of dimensions that some configurations set, for a device with these options."""
        kinds = {kind for configuration in configurations for kind in configuration.kinds}
        return cls(template, dimensions_of(template, kinds), any(option.startswith(PACKS) for option in options))

    @classmethod
    def named(cls, template: Workload, names: Collection[str]) -> "FeatureSet":
        """Features of the kinds of dimensions whose features are among some names."""
        cuts = [kind for kind in all_kinds() if kind.cuts and not _features_of(kind).keys().isdisjoint(names)]
        return cls(template, dimensions_of(template, cuts), SPLIT in names)

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        """Linears that run."""
        return self.template.base.scope_sites

    @cached_property
    def linear_kinds(self) -> tuple[str, ...]:
        """Kinds of linear, in the order in which a layer calls them."""
        return tuple(dict.fromkeys(site.kind for site in self.sites))

    @cached_property
    def cuts(self) -> tuple[Kind, ...]:
        """Kinds of dimensions that leave out weights of the base."""
        return tuple(dict.fromkeys(each.kind for each in self.dimensions if each.kind.cuts))

    @property
    def names(self) -> tuple[str, ...]:
        """One per column of the matrix."""
        return tuple(self.units)

    @property
    def prior(self) -> tuple[int, ...]:
        """Columns that explain most of the latency on any device."""
        return (SITES, FLOPS, *(self.names.index(list(_features_of(kind))[-1]) for kind in self.cuts))

    @property
    def totals(self) -> tuple[int, ...]:
        """Columns of the whole configuration, not of one kind of linear."""
        return tuple(number for number, name in enumerate(self.names) if ":" not in name)

    @property
    def units(self) -> dict[str, str]:
        """Unit of each column of the matrix, by name."""
        total = {"sites": "sites", "adapter_bytes": "bytes", MODEL_FLOPS if self.cuts else ADAPTER_FLOPS: "FLOP"}
        by_kind = {f"{name}:{kind}": name for name in ("sites", "bytes") for kind in self.linear_kinds}
        cuts = {name: unit for kind in self.cuts for name, unit in _features_of(kind).items()}
        return {**total, **by_kind, **({SPLIT: "layers"} if self.packs else {}), **cuts}

    def matrix(self, values: Values) -> Array:
        """The features of each configuration. Shape (n, n_dimensions) -> (n, n_features).

        Raises:
            InputError: The values are not allowed for these dimensions.
        """
        self._check(values)
        rows, bytes_each = self.template.rows, self.template.base_weight_bytes
        linears = linears_of(self.template.shape, self.sites, self.dimensions, values)
        linears = linears.padded() if self.template.mode == "padded" else linears
        added = linears.adapters(rows=rows, width=BYTES[self.template.dtype])
        applied = 0.0 if self.template.in_weights else 1.0
        active, moved = applied * (linears.ranks > 0), applied * added.moved_bytes
        saved = np.broadcast_to(linears.weights - self._base_weights, moved.shape).astype(np.float64)
        flops = applied * added.flops.sum(axis=1) + 2 * rows * saved.sum(axis=1)
        columns = [active.sum(axis=1), moved.sum(axis=1), flops, active @ self._member, moved @ self._member]
        columns += [self._split(active)] if self.packs else []
        for kind in self.cuts:
            own = [number for number, each in enumerate(self.dimensions) if each.kind == kind]
            if kind.presence:
                columns.append(values[:, own].sum(axis=1) - float(len(own)))
                continue
            weights = saved[:, self._touched(kind)].sum(axis=1)
            columns += [bytes_each * weights, 2 * rows * weights]
        return np.column_stack(columns).astype(np.float64)

    def values(self, configurations: Sequence[Configuration]) -> Values:
        """Values of dimensions; a site that does not run is ignored. Shape (n, n_dimensions).

        Raises:
            InputError: An adapter is not a LoRA, or a configuration sets a kind of dimension that is not here.
        """
        if kinds := {configuration.kind for configuration in configurations} - {"lora"}:
            raise InputError(f"predictors know LoRA adapters only, not {', '.join(kinds)}; measure their overhead")
        known = {each.kind for each in self.dimensions}
        unknown = {kind for each in configurations for kind in each.kinds if kind.cuts and kind not in known}
        self._refuse(unknown)
        usual = self._base.tolist()
        rows = []
        for configuration in configurations:
            given = dict(configuration.values)
            rows.append([given.get(each, base) for each, base in zip(self.dimensions, usual, strict=True)])
        return np.array(rows, dtype=np.int64).reshape(len(configurations), len(self.dimensions))

    def spread(self, values: Values, dimensions: Sequence[Dimension]) -> Values:
        """Values extended from some dimensions to these: the base's in the others.

        Raises:
            InputError: The values have another number of columns, or one that is not here.
        """
        if values.ndim != 2 or values.shape[1] != len(dimensions):
            raise InputError(
                f"values of {len(dimensions)} dimensions must have the shape (n, {len(dimensions)}), not {values.shape}"
            )
        position = {each: number for number, each in enumerate(self.dimensions)}
        self._refuse({each.kind for each in dimensions if each.kind.cuts and each not in position})
        if unknown := [each for each in dimensions if each not in position]:
            raise InputError(f"the predictor was not fitted for the {unknown[0]}; fit a new one")
        if len(set(dimensions)) < len(dimensions):
            raise InputError("a dimension is named twice among those of the values")
        wider = np.repeat(self._base[None], len(values), axis=0).astype(values.dtype)
        wider[:, [position[each] for each in dimensions]] = values
        return wider

    def _refuse(self, unknown: Collection[Kind]) -> None:
        if unknown:
            first = min(kind.name for kind in unknown)
            raise InputError(
                f"the predictor was fitted to bases of the original {first} only; profile configurations with "
                f"{', '.join(sorted(kind.key for kind in unknown))} and fit again"
            )

    @cached_property
    def _base(self) -> Values:
        """Values of the base. Shape (n_dimensions,)."""
        return np.array([each.kind.base(self.template.shape) for each in self.dimensions], dtype=np.int64)

    @cached_property
    def _base_weights(self) -> Values:
        """Weights of each linear of the base. Shape (n_sites,)."""
        return np.array([site.in_features * site.out_features for site in self.sites], dtype=np.int64)

    @cached_property
    def _member(self) -> Array:
        """1 if a linear is of a kind, else 0. Shape (n_sites, n_kinds)."""
        return np.array([[site.kind == kind for kind in self.linear_kinds] for site in self.sites], dtype=np.float64)

    def _split(self, active: NDArray[np.floating]) -> Array:
        """Layers with an adapter on q, k or v. Shape (n, n_sites) -> (n,)."""
        layers = {site.layer for site in self.sites}
        own = [[s.kind in PACKED_KINDS and s.layer == layer for s in self.sites] for layer in sorted(layers)]
        counts: Array = np.array([active[:, columns].max(axis=1, initial=0.0) for columns in own]).sum(axis=0)
        return counts

    def _touched(self, kind: Kind) -> list[int]:
        """Numbers of the linears that a kind of dimension may make smaller."""
        shape = self.template.shape
        own = [each for each in self.dimensions if each.kind == kind]
        paths = {path for each in own for path in kind.tensors(shape, each.place, kind.least)}
        return [number for number, site in enumerate(self.sites) if site.path in paths]

    def _check(self, values: Values) -> None:
        if values.ndim != 2 or values.shape[1] != len(self.dimensions):
            kinds = ", ".join(dict.fromkeys(each.kind.name for each in self.dimensions))
            raise InputError(
                f"values must have the shape (n, {len(self.dimensions)}), one column per {kinds}, not {values.shape}; "
                "name the dimensions if they are fewer"
            )
        if not np.issubdtype(values.dtype, np.integer):
            raise InputError(f"values must be whole numbers, such as ranks, not {values.dtype}")
        least = np.array([each.kind.least for each in self.dimensions], dtype=np.int64)
        if (wrong := np.argwhere((values < least) | (values > self._largest))).size:
            row, number = wrong[0]
            raise InputError(
                f"the {self.dimensions[number]} must be {least[number]} to {self._largest[number]}, "
                f"not {values[row, number]}"
            )

    @cached_property
    def _largest(self) -> Values:
        """Largest value of each dimension. Shape (n_dimensions,)."""
        shape = self.template.shape
        return np.array([each.largest(shape, shape.site_by_path) for each in self.dimensions], dtype=np.int64)


def _features_of(kind: Kind) -> dict[str, str]:
    """Name -> unit of the features of a kind of dimension that cuts the base."""
    label = (kind.label or kind.name).lower()
    return {label: "layers"} if kind.presence else {f"{label}_bytes": "bytes", f"{label}_flops": "FLOP"}
