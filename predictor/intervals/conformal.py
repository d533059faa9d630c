"""Distribution-free half-width of a prediction interval, from the residuals of held-out rows."""

import math

import numpy as np
from numpy.typing import NDArray

from adaptare.core import InputError


def rows_needed(level: float) -> int:
    """Fewest residuals whose maximum holds a new one with probability `level`: 9 at level 0.9, 19 at 0.95."""
    if not 0 < level < 1:
        raise InputError(f"level must be between 0 and 1, as 0.9, not {level}")
    return math.ceil(round(level / (1 - level), 9))


def conformal_half_width(residuals: NDArray[np.float64], *, level: float) -> float:
    """Error bound of a new row with probability `level`; infinite with fewer than `rows_needed` residuals.

    The residuals must be of rows that were left out of the fit. The only assumption is that a new row is
    exchangeable with them, so the shift of a new session is added by `SessionSpread`. Of n residuals and a new one each
    is equally likely to have any rank, so the k-th of n is exceeded with probability 1 - k / (n + 1); where
    (n + 1) level is not an integer, the result is interpolated between its two neighbours, and has coverage `level` if
    residuals are about as dense at both. With leave-one-out residuals this holds closely but not strictly.

    Args:
        residuals: Residuals of either sign. Shape (n,).
        level: Coverage probability of the interval.

    References:
        Barber, Candès, Ramdas, Tibshirani 2021, "Predictive inference with the jackknife+", eq. 1.1.
        Hyndman, Fan 1996, "Sample quantiles in statistical packages", definition 6.
    """
    if len(residuals) < rows_needed(level):
        return math.inf
    return float(np.quantile(np.abs(residuals), level, method="weibull"))
