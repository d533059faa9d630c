"""A smooth function of few numbers, learned from tens to hundreds of rows."""

import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Kernel, Matern, WhiteKernel
from sklearn.utils.validation import check_is_fitted, validate_data


class Smooth(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn publishes no types
    """A Gaussian process with a length scale for each column and a noise of its own, all by marginal likelihood.

    Columns are standardised and the mean of y is taken off, so far from any row it predicts that mean.

    Args:
        nu: Smoothness of the Matern kernel: 0.5 is rough, 1.5 and 2.5 have one and two derivatives.

    Attributes:
        process_: The fitted process, on standardised columns.

    References:
        Rasmussen, Williams 2006, "Gaussian processes for machine learning", chapters 4 and 5.
    """

    def __init__(self, nu: float = 1.5) -> None:
        self.nu = nu

    def fit(self, X: ArrayLike, y: ArrayLike) -> "Smooth":
        """X of shape (n_samples, n_features), y of shape (n_samples,)."""
        checked: tuple[NDArray[np.float64], NDArray[np.float64]]
        checked = validate_data(self, X, y, y_numeric=True, dtype=np.float64)
        columns, target = checked
        self._centre: NDArray[np.float64] = columns.mean(axis=0)
        spread = columns.std(axis=0)
        self._scale: NDArray[np.float64] = np.where(spread > 0, spread, 1.0)
        self._level, deviation = float(target.mean()), float(target.std())
        self._unit = deviation if deviation > 0 else 1.0
        self.process_ = GaussianProcessRegressor(self._kernel(columns.shape[1]), random_state=0)
        with warnings.catch_warnings():
            # A length scale at its bound only says that the column does not matter.
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.process_.fit((columns - self._centre) / self._scale, (target - self._level) / self._unit)
        return self

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """Shape (n, n_features) -> (n,)."""
        check_is_fitted(self)
        checked: NDArray[np.float64] = validate_data(self, X, reset=False, dtype=np.float64)
        found: NDArray[np.float64] = self.process_.predict((checked - self._centre) / self._scale)
        return self._level + self._unit * found

    def _kernel(self, n_features: int) -> Kernel:
        matern = Matern(np.full(n_features, 2.0), length_scale_bounds=(0.05, 1e3), nu=self.nu)
        return ConstantKernel(1.0, (1e-3, 1e2)) * matern + WhiteKernel(0.05, (1e-6, 1.0))
