"""Distribution-free half-width of a prediction interval, from the residuals of held-out rows."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adaptare.devices import InputError


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


@dataclass(frozen=True)
class Level:
    """Latency level of a session relative to the training sessions.

    Args:
        scale: Measured over predicted latencies.
        half_width: Half-width of the interval, relative to the scaled prediction.
    """

    scale: float
    half_width: float


def relevel(measured: NDArray[np.float64], predicted: NDArray[np.float64], *, level: float) -> Level:
    """Level of a session, from reference rows that were measured in it.

    A new session mainly shifts all latencies together, which invalidates intervals of earlier sessions. The references
    must be spread evenly over the session: those from its start only, before the device reaches a steady state, are
    worse than none.

    The references are part of the scale they are compared with, which reduces coverage slightly, more so the fewer they
    are; their even instead of random spacing raises it (`hwgpt-session` of benchmarks/prediction_external.py prints the
    sum of both), so no reference is left out of its scale.

    Args:
        measured: Latency of the references in the session. Shape (n,), seconds.
        predicted: Predictions of the same rows. Shape (n,), seconds.
        level: Coverage probability of the interval.
    """
    scale = float(np.median(measured / predicted))
    return Level(scale, conformal_half_width(measured / (scale * predicted) - 1, level=level))
