"""Sizes and adapters of linears in many configurations at once, and the work that follows from them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from adaptare.profiler.workloads.dimension import Dimension
from adaptare.profiler.workloads.shape import ModelShape, Site

# Launches that an unmerged adapter adds to its linear: A x, B (A x), the scaling, the addition.
ADAPTER_LAUNCHES = 4
DORA_LAUNCHES = 12
Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class AdapterWork:
    """Work that adapters add to one call, by configuration and linear; each of shape (n, n_sites).

    Args:
        launches: Kernels.
        moved_bytes: Bytes of A and B, and of the activations around them.
        flops: Floating-point operations.
    """

    launches: Counts
    moved_bytes: Counts
    flops: Counts


@dataclass(frozen=True, eq=False)
class Linears:
    """Linears of n configurations; arrays of shape (n, n_sites), sizes of shape (1, n_sites) where all have the base's.

    Args:
        sites: Linears of the base.
        ranks: Rank of the adapter at each; 0 = none.
        inputs: Width of the input; 0 for a linear that is left out.
        outputs: Width of the output.
    """

    sites: tuple[Site, ...] = field(repr=False)
    ranks: Counts
    inputs: Counts
    outputs: Counts

    @cached_property
    def weights(self) -> Counts:
        """Number of weights of each linear. Shape (n, n_sites)."""
        return self.inputs * self.outputs

    @cached_property
    def adapter_weights(self) -> Counts:
        """Number of weights of each adapter. Shape (n, n_sites)."""
        return self.ranks * (self.inputs + self.outputs)

    @property
    def calls(self) -> Counts:
        """Number of linears. Shape (n,)."""
        calls: Counts = (self.outputs > 0).sum(axis=1)
        return calls

    @property
    def layers(self) -> Counts:
        """Number of decoder layers. Shape (n,)."""
        layers: Counts = (self.outputs[:, self._of_kind("o_proj")] > 0).sum(axis=1)
        return layers

    @property
    def queries(self) -> Counts:
        """Query features, summed over the layers. Shape (n,)."""
        queries: Counts = self.inputs[:, self._of_kind("o_proj")].sum(axis=1)
        return queries

    @property
    def cached(self) -> Counts:
        """Key and value features that each position adds to the cache, summed over the layers. Shape (n,)."""
        fused = self._of_kind("qkv_proj")
        own: Counts = self.outputs[:, self._of_kind("k_proj", "v_proj", "qkv_proj")].sum(axis=1)
        return own - self.queries if fused.any() else own

    def padded(self) -> "Linears":
        """The same, with every adapter at the largest rank of its configuration."""
        largest = self.ranks.max(axis=1, initial=0, keepdims=True)
        return Linears(self.sites, np.where(self.ranks > 0, largest, 0), self.inputs, self.outputs)

    def adapters(self, *, rows: int, width: int, dora: bool = False) -> AdapterWork:
        """Work of unmerged adapters.

        Args:
            rows: Rows of the matrix that every linear multiplies.
            width: Bytes of a number.
            dora: True for the work of PEFT in every call of DoRA in addition to LoRA: B A of a unit matrix, W + B A,
                and its row norms.
        """
        active = (self.ranks > 0).astype(np.int64)
        launches, flops = ADAPTER_LAUNCHES * active, 2 * rows * self.adapter_weights
        moved = width * (self.adapter_weights + 3 * rows * self.outputs * active)
        if dora:
            unit = self.inputs**2
            launches = launches + DORA_LAUNCHES * active
            moved = moved + width * active * (2 * unit + 5 * self.weights)
            flops = flops + 2 * self.ranks * (unit + self.weights) + 4 * self.weights * active
        return AdapterWork(launches, moved, flops)

    def _of_kind(self, *kinds: str) -> NDArray[np.bool_]:
        return np.array([site.kind in kinds for site in self.sites], dtype=np.bool_)


def linears_of(
    shape: ModelShape, sites: Sequence[Site], dimensions: Sequence[Dimension], values: NDArray[np.int64]
) -> Linears:
    """Linears of configurations, given as values of dimensions.

    Args:
        shape: Shape of the base model.
        sites: Linears that run.
        dimensions: Meaning of the columns of the values.
        values: Shape (n, n_dimensions).
    """
    position = {site.path: number for number, site in enumerate(sites)}
    ranks = np.zeros((len(values), len(sites)), dtype=np.int64)
    ranked = [number for number, each in enumerate(dimensions) if not each.kind.cuts and each.place in position]
    ranks[:, [position[dimensions[number].place] for number in ranked]] = values[:, ranked]
    inputs, outputs = (
        np.array([[getattr(site, side) for site in sites]], dtype=np.int64).reshape(1, -1)
        for side in ("in_features", "out_features")
    )
    cuts = [(number, each) for number, each in enumerate(dimensions) if each.kind.cuts]
    if cuts:
        inputs, outputs = (np.repeat(sizes, len(values), axis=0) for sizes in (inputs, outputs))
    for number, dimension in cuts:
        for value in np.unique(values[:, number]).tolist():
            here = values[:, number] == value
            for path, part in dimension.kind.tensors(shape, dimension.place, value).items():
                if (column := position.get(path)) is not None:
                    smaller = part.of(sites[column])
                    inputs[here, column] = np.minimum(inputs[here, column], smaller.in_features)
                    outputs[here, column] = np.minimum(outputs[here, column], smaller.out_features)
    return Linears(tuple(sites), ranks, inputs, outputs)
