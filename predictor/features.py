"""Hardware demands of a configuration as features for a linear fit."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.profiler import Column, Configuration, MlpWidth, Site, Workload
from adaptare.profiler.workloads.depth import Depth
from adaptare.profiler.workloads.workload import BYTES

# Columns of the whole configuration, followed by `sites:KIND` and `bytes:KIND` for every kind of linear.
SITES, ADAPTER_BYTES, FLOPS = 0, 1, 2
Codes = NDArray[np.int64]
Array = NDArray[np.float64]


def columns_of(template: Workload, configurations: Sequence[Configuration]) -> tuple[Column, ...]:
    """Columns of the codes of some configurations: the linears that run, widths if some layer is narrower, and depth.

    Args:
        template: The workloads without their configurations.
        configurations: Configurations to encode.
    """
    base = template.base
    narrower = any(configuration.widths for configuration in configurations)
    shallower = any(configuration.left_out for configuration in configurations)
    widths = base.shape.mlp_widths[: base.layers] if narrower else ()
    return (*base.scope_sites, *widths, *((base.shape.depth,) if shallower else ()))


@dataclass(frozen=True)
class FeatureSet:
    """Physical features of configurations for one workload template.

    Adapter features count what the adapter adds to one call: its sites (linears with an adapter, each issuing separate
    kernels), bytes moved and FLOPs, and the first two again per kind of linear. All are zero if the adapter is merged
    into the base; with padded ranks every site counts the largest rank.

    Where the codes have widths or depth, the FLOPs are those added by the adapter less those saved in linears of the
    base. With widths, two more features are the savings of narrower MLPs alone, in bytes and FLOPs; a layer left out
    lacks its whole MLP. With depth, one more is the number of layers left out, for all else that they take: attention,
    norms and calls. Savings are 0 for the base and negative otherwise, so that a coefficient is never below zero.

    Args:
        template: The workload; its configuration is ignored.
        columns: Meaning of the columns of the codes.
    """

    template: Workload
    columns: tuple[Column, ...] = field(repr=False)

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        """Columns that are ranks."""
        return tuple(column for column in self.columns if isinstance(column, Site))

    @cached_property
    def widths(self) -> tuple[MlpWidth, ...]:
        """Columns that are widths."""
        return tuple(column for column in self.columns if isinstance(column, MlpWidth))

    @cached_property
    def depth(self) -> Depth | None:
        """The column that is the number of layers."""
        return next((column for column in self.columns if isinstance(column, Depth)), None)

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of linear, in the order in which a layer calls them."""
        return tuple(dict.fromkeys(site.kind for site in self.sites))

    @property
    def names(self) -> tuple[str, ...]:
        """One per column of the matrix."""
        by_kind = [f"{quantity}:{kind}" for quantity in ("sites", "bytes") for kind in self.kinds]
        narrower, shallower = ("mlp_bytes", "mlp_flops") if self.widths else (), ("layers",) if self.depth else ()
        flops = "flops" if narrower or shallower else "adapter_flops"
        return ("sites", "adapter_bytes", flops, *by_kind, *narrower, *shallower)

    @property
    def units(self) -> tuple[str, ...]:
        """One per column of the matrix."""
        by_kind = (*["sites"] * len(self.kinds), *["bytes"] * len(self.kinds))
        saved = (*(("bytes", "FLOP") if self.widths else ()), *(("layers",) if self.depth else ()))
        return ("sites", "bytes", "FLOP", *by_kind, *saved)

    @property
    def prior(self) -> tuple[int, ...]:
        """Columns that explain most of the latency on any device."""
        return (SITES, FLOPS, *(self.names.index(name) for name in ("mlp_flops", "layers") if name in self.names))

    def matrix(self, codes: Codes) -> Array:
        """The features of each configuration. Shape (n, n_columns) -> (n, n_features).

        Raises:
            InputError: The codes are not valid ranks, widths and depths for these columns.
        """
        self._check(codes)
        ranks = self._of(Site, codes)
        active = (ranks > 0).astype(np.float64)
        if self.template.mode == "padded":
            ranks = active * ranks.max(axis=1, initial=0.0, keepdims=True)
        added: Array = active @ self._per_site + ranks @ self._per_rank
        layers = self._of(Depth, codes) - (self.depth.largest if self.depth else 0)
        added[:, FLOPS] += layers.sum(axis=1) * self._per_layer
        if not self.widths:
            return np.hstack([added, layers])
        gone = np.array([width.largest for width in self.widths]) - self._of(MlpWidth, codes)
        at_site = gone @ self._site_of_layer
        added -= (at_site * active) @ self._per_site_and_neuron + (at_site * ranks) @ self._per_rank_and_neuron
        narrower = -gone @ self._per_neuron
        added[:, FLOPS] += narrower[:, 1]
        whole = self.widths[0].largest * self._per_neuron[0]
        return np.hstack([added, narrower + layers.sum(axis=1, keepdims=True) * whole, layers])

    def _of(self, kind: type[Column], codes: Codes) -> Array:
        """Columns of a kind. Shape (n, n_columns) -> (n, n_of_kind)."""
        return codes[:, [isinstance(column, kind) for column in self.columns]].astype(np.float64)

    @cached_property
    def _per_site(self) -> Array:
        """Cost of a site at any rank: the activations moved around it. Shape (n_sites, n_features)."""
        return self._of_sites([1] * len(self.sites), [site.out_features for site in self.sites], per_rank=False)

    @cached_property
    def _per_rank(self) -> Array:
        """Cost of each rank of a site: one row of A and one column of B. Shape (n_sites, n_features)."""
        weights = [site.in_features + site.out_features for site in self.sites]
        return self._of_sites([0] * len(self.sites), weights, per_rank=True)

    @cached_property
    def _per_site_and_neuron(self) -> Array:
        """Part of `_per_site` due to each neuron of the site's layer. Shape (n_sites, n_features)."""
        return self._of_sites([0] * len(self.sites), [wide_out for _, wide_out in self._per_neuron_of], per_rank=False)

    @cached_property
    def _per_rank_and_neuron(self) -> Array:
        """Part of `_per_rank` due to each neuron of the site's layer. Shape (n_sites, n_features)."""
        return self._of_sites([0] * len(self.sites), [sum(wide) for wide in self._per_neuron_of], per_rank=True)

    @cached_property
    def _per_neuron(self) -> Array:
        """Bytes and FLOPs of the base due to one neuron of a layer. Shape (n_widths, 2)."""
        own = [site for site in self.template.shape.sites if site.layer == 0]
        weights = sum(
            wide_in * site.out_features + wide_out * site.in_features
            for site, (wide_in, wide_out) in zip(own, _of_one_neuron(self.template, own), strict=True)
        )
        per_call = [self.template.base_weight_bytes * weights, 2 * self.template.rows * weights]
        return np.array([per_call] * len(self.widths))

    @cached_property
    def _per_layer(self) -> float:
        """FLOPs of the linears of one layer of the base."""
        own = [site for site in self.template.shape.sites if site.layer == 0]
        return 2.0 * self.template.rows * sum(site.in_features * site.out_features for site in own)

    @cached_property
    def _per_neuron_of(self) -> list[tuple[int, int]]:
        return _of_one_neuron(self.template, self.sites)

    @cached_property
    def _site_of_layer(self) -> Array:
        """1 if a site lies in the layer of a width, else 0. Shape (n_widths, n_sites)."""
        return np.array([[site.layer == width.layer for site in self.sites] for width in self.widths], dtype=np.float64)

    def _of_sites(self, launches: Sequence[int], features: Sequence[int], *, per_rank: bool) -> Array:
        """Columns of the sites: calls, and quantities proportional to weights of a rank or to activations."""
        if self.template.in_weights:
            return np.zeros((len(self.sites), 3 + 2 * len(self.kinds)))
        width, rows = BYTES[self.template.dtype], self.template.rows
        moved = [width * count * (1 if per_rank else 3 * rows) for count in features]
        flops = [2 * rows * count * per_rank for count in features]
        of_kind = np.array([[site.kind == kind for kind in self.kinds] for site in self.sites], dtype=np.float64)
        totals = np.array([launches, moved, flops], dtype=np.float64).T
        return np.hstack([totals, of_kind * totals[:, [SITES]], of_kind * totals[:, [ADAPTER_BYTES]]])

    def _check(self, codes: Codes) -> None:
        if codes.ndim != 2 or codes.shape[1] != len(self.columns):
            cuts = [" and width"] * bool(self.widths) + [" and the depth"] * bool(self.depth)
            unit = f"site{''.join(cuts)}"
            raise InputError(
                f"codes must have the shape (n, {len(self.columns)}), one column per {unit}, not {codes.shape}; "
                "name the columns if they are fewer"
            )
        if not np.issubdtype(codes.dtype, np.integer):
            raise InputError(f"codes must be whole numbers, ranks, not {codes.dtype}")
        ranked = np.array([isinstance(column, Site) for column in self.columns], dtype=np.int64)
        largest = np.array([_largest(column) for column in self.columns], dtype=np.int64)
        wrong = (codes < 1 - ranked) | (codes > largest)
        if wrong.any():
            row, number = np.argwhere(wrong)[0]
            column, code = self.columns[number], codes[row, number]
            if isinstance(column, MlpWidth):
                raise InputError(f"width {code} of layer {column.layer} must be 1 to {column.largest}")
            if isinstance(column, Depth):
                raise InputError(f"the number of layers must be 1 to {column.largest}, not {code}")
            raise InputError(f"rank {code} of {column.path} must be 0 (no adapter) to {column.largest_rank}")


def _largest(column: Column) -> int:
    return column.largest_rank if isinstance(column, Site) else column.largest


def _of_one_neuron(template: Workload, sites: Sequence[Site]) -> list[tuple[int, int]]:
    """Numbers of input and output features of each site that belong to one neuron of its MLP."""
    shape = template.shape
    other = {site.path: site for site in shape.sites_with(dict.fromkeys(range(shape.layers), shape.intermediate + 1))}
    return [
        (other[site.path].in_features - site.in_features, other[site.path].out_features - site.out_features)
        for site in sites
    ]
