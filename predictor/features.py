"""What an adapter config asks of the hardware, in numbers a linear fit can price."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from adaptare.devices import InputError
from adaptare.profiler import BYTES, Site, Workload

# The columns of the whole adapter; behind them come `sites:KIND` and `bytes:KIND` for every kind of linear.
SITES, ADAPTER_BYTES, ADAPTER_FLOPS = 0, 1, 2


@dataclass(frozen=True)
class FeatureSet:
    """Physical features of adapter configs for one workload template.

    Each feature is what an adapter adds to one call: the sites it is applied at (each issues its own kernels), the
    bytes it moves and its FLOPs, and the first two again for each kind of linear. All are zero where the adapter is
    folded into the base, and count the largest rank everywhere where ranks are padded to it.

    Args:
        template: Everything about the workload but its adapter, which is ignored.
        sites: What the columns of the codes stand for.
    """

    template: Workload
    sites: tuple[Site, ...] = field(repr=False)

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of linear, in the order in which a layer calls them."""
        return tuple(dict.fromkeys(site.kind for site in self.sites))

    @property
    def names(self) -> tuple[str, ...]:
        """One per column of the matrix."""
        by_kind = [f"{quantity}:{kind}" for quantity in ("sites", "bytes") for kind in self.kinds]
        return ("sites", "adapter_bytes", "adapter_flops", *by_kind)

    @property
    def units(self) -> tuple[str, ...]:
        """One per column of the matrix."""
        return ("sites", "bytes", "FLOP", *["sites"] * len(self.kinds), *["bytes"] * len(self.kinds))

    def matrix(self, codes: NDArray[np.int64]) -> NDArray[np.float64]:
        """The features of each config. Shape (n, n_sites) -> (n, n_features).

        Raises:
            InputError: The codes are no ranks of these sites.
        """
        self._check(codes)
        active = (codes > 0).astype(np.float64)
        ranks = codes.astype(np.float64)
        if self.template.mode == "padded":
            ranks = active * ranks.max(axis=1, initial=0.0, keepdims=True)
        added: NDArray[np.float64] = active @ self._per_site + ranks @ self._per_rank
        return added

    @cached_property
    def _per_site(self) -> NDArray[np.float64]:
        """What a site adds whatever its rank: the activations moved around it. Shape (n_sites, n_features)."""
        width = BYTES[self.template.dtype]
        activations = [width * 3 * self.template.rows * site.out_features for site in self.sites]
        return self._columns([1] * len(self.sites), activations, [0] * len(self.sites))

    @cached_property
    def _per_rank(self) -> NDArray[np.float64]:
        """What each rank of a site adds: one row of A and one column of B. Shape (n_sites, n_features)."""
        weights = [site.in_features + site.out_features for site in self.sites]
        moved = [BYTES[self.template.dtype] * count for count in weights]
        return self._columns([0] * len(self.sites), moved, [2 * self.template.rows * count for count in weights])

    def _columns(self, launches: Sequence[int], moved: Sequence[int], flops: Sequence[int]) -> NDArray[np.float64]:
        if self.template.in_weights:
            return np.zeros((len(self.sites), len(self.names)))
        of_kind = np.array([[site.kind == kind for kind in self.kinds] for site in self.sites], dtype=np.float64)
        totals = np.array([launches, moved, flops], dtype=np.float64).T
        return np.hstack([totals, of_kind * totals[:, [SITES]], of_kind * totals[:, [ADAPTER_BYTES]]])

    def _check(self, codes: NDArray[np.int64]) -> None:
        if codes.ndim != 2 or codes.shape[1] != len(self.sites):
            raise InputError(
                f"codes must have the shape (n, {len(self.sites)}), one column per site, not {codes.shape}; "
                "name the sites of the columns if they are fewer"
            )
        if not np.issubdtype(codes.dtype, np.integer):
            raise InputError(f"codes must be whole numbers, ranks, not {codes.dtype}")
        largest = np.array([site.largest_rank for site in self.sites], dtype=np.int64)
        wrong = (codes < 0) | (codes > largest)
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            site = self.sites[column]
            raise InputError(f"rank {codes[row, column]} of {site.path} must be 0 (no adapter) to {site.largest_rank}")
