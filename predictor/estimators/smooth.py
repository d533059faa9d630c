"""Smooth function of few features, learned from tens to hundreds of rows."""

import warnings

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Kernel, Matern, WhiteKernel
from sklearn.utils.validation import check_is_fitted

from adaptare.core import InputError
from adaptare.predictor.estimators.curve import KERNELS, Curve
from adaptare.predictor.estimators.estimator import Estimator
from adaptare.predictor.regressor import rows_by_left_out_set


class Smooth(Estimator):
    """Gaussian process whose noise and length scales maximise the marginal likelihood.

    Columns are standardised and y is centred, so far from any row it predicts the mean of y.

    Args:
        nu: Smoothness of the Matern kernel: 0.5 is rough, 1.5 and 2.5 have one and two derivatives, infinity has all.
        by_column: True for one length scale per column, which needs more rows; else all columns share one.

    Attributes:
        curve_: The fitted function.

    References:
        Rasmussen, Williams 2006, "Gaussian processes for machine learning", chapters 4 and 5.
    """

    def __init__(self, nu: float = 1.5, by_column: bool = True) -> None:
        self.nu = nu
        self.by_column = by_column

    def _learn(self, X: NDArray[np.float64], y: NDArray[np.float64]) -> None:
        if self.nu not in KERNELS:
            raise InputError(f"nu must be one of {', '.join(map(str, KERNELS))}, not {self.nu}")
        centre, spread = X.mean(axis=0), X.std(axis=0)
        scale = np.where(spread > 0, spread, 1.0)
        level, deviation = float(y.mean()), float(y.std())
        self._unit = deviation if deviation > 0 else 1.0
        process = GaussianProcessRegressor(self._kernel(X.shape[1]), random_state=0)
        with warnings.catch_warnings():
            # A length scale at its bound only means that the column has no effect.
            warnings.simplefilter("ignore", ConvergenceWarning)
            process.fit((X - centre) / scale, (y - level) / self._unit)
        heights, lengths = process.kernel_.k1.k1.constant_value, process.kernel_.k1.k2.length_scale
        self._factor: NDArray[np.float64] = process.L_
        self._gains: NDArray[np.float64] = process.alpha_
        self.curve_ = Curve(
            rows=process.X_train_ / lengths,
            weights=self._unit * heights * process.alpha_,
            centre=centre,
            scale=scale * lengths,
            basis=np.eye(X.shape[1]),
            level=level,
            nu=self.nu,
        )

    def _answer(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.curve_(X)

    def left_out_residuals(self, apart: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Residual of each training row when it and others are left out, all else equal.

        Args:
            apart: True if row j is left out when row i is evaluated; true where i = j. Shape (n_samples, n_samples).

        References:
            Rasmussen, Williams 2006, eq. 5.12, for several rows at once.
        """
        check_is_fitted(self)
        precision, left_out = cho_solve((self._factor, True), np.eye(len(self._gains))), np.empty(len(self._gains))
        for judged, rows in rows_by_left_out_set(apart):
            off = np.linalg.solve(precision[np.ix_(rows, rows)], self._gains[rows])
            left_out[judged] = self._unit * off[np.isin(rows, judged)]
        return left_out

    def _kernel(self, n_features: int) -> Kernel:
        lengths = np.full(n_features, 2.0) if self.by_column else 2.0
        matern = Matern(lengths, length_scale_bounds=(0.05, 1e3), nu=self.nu)
        return ConstantKernel(1.0, (1e-3, 1e2)) * matern + WhiteKernel(0.05, (1e-6, 1.0))
