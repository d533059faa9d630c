"""Linear fit of costs with non-negative coefficients."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from adaptare.predictor.estimators.estimator import LinearEstimator

# Iterations of the active-set method per column.
MOST_STEPS = 30


class NonNegativeLinear(LinearEstimator):
    """Least squares in relative error with non-negative coefficients for every column and the intercept.

    Minimises sum((b + X c - y)^2 / y^2) over b, c >= 0. For columns of calls, bytes and FLOPs no cost can be negative,
    and the constraint is worth many rows: few columns are active and no regularisation strength has to be chosen.

    Attributes:
        coef_: Shape (n_features,), in units of y per unit of the column.
        intercept_: The prediction at X = 0.

    References:
        Lawson, Hanson 1974, "Solving least squares problems", chapter 23.
    """

    only_latencies = True

    def _learn(self, X: NDArray[np.float64], y: NDArray[np.float64]) -> None:
        weights = 1 / np.maximum(np.abs(y), np.finfo(np.float64).tiny ** 0.5)
        largest = np.abs(X).max(axis=0)
        scale = np.where(largest > 0, largest, 1.0)
        design = np.hstack([np.ones((len(y), 1)), X / scale])
        # Totals alongside their parts make columns dependent, which takes the active-set method more steps than usual.
        prices, _ = nnls(design * weights[:, None], y * weights, maxiter=MOST_STEPS * design.shape[1])
        self.intercept_, self.coef_ = float(prices[0]), prices[1:] / scale
