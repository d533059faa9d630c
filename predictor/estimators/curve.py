"""Smooth function stored as arrays: the predictive mean of a fitted Gaussian process."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

Array = NDArray[np.float64]
# Matern kernels of a distance in length scales, by smoothness nu; the last is the squared exponential.
KERNELS: Mapping[float, Callable[[Array], Array]] = {
    0.5: lambda distance: np.exp(-distance),
    1.5: lambda distance: (1 + math.sqrt(3) * distance) * np.exp(-math.sqrt(3) * distance),
    2.5: lambda distance: (1 + math.sqrt(5) * distance + 5 / 3 * distance**2) * np.exp(-math.sqrt(5) * distance),
    math.inf: lambda distance: np.exp(-(distance**2) / 2),
}


@dataclass(frozen=True, eq=False)
class Curve:
    """f(x) = level + sum_i weights_i k(|(x basis - centre) / scale - rows_i|).

    Args:
        rows: Training rows, centred and scaled. Shape (n_rows, n_features).
        weights: Kernel weights in units of f. Shape (n_rows,).
        centre: Shape (n_features,).
        scale: Length scale of each feature. Shape (n_features,).
        basis: Map from the features of a query to those of the training rows. Shape (n_features, n_features).
        level: Value far from all rows.
        nu: Smoothness of the kernel, a key of `KERNELS`.

    References:
        Rasmussen, Williams 2006, "Gaussian processes for machine learning", eq. 2.27 and 4.14.
    """

    rows: Array = field(repr=False)
    weights: Array = field(repr=False)
    centre: Array = field(repr=False)
    scale: Array = field(repr=False)
    basis: Array = field(repr=False)
    level: float
    nu: float

    def __call__(self, X: Array) -> Array:
        """Shape (n, n_features) -> (n,)."""
        near = KERNELS[self.nu](cdist((X @ self.basis - self.centre) / self.scale, self.rows))
        values: Array = self.level + near @ self.weights
        return values
