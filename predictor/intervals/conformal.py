"""How far a prediction may be off, from what left-out rows were off, without assuming a distribution."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adaptare.devices import InputError


def rows_needed(level: float) -> int:
    """The fewest residuals of which the largest is exceeded at most so often: 9 at level 0.9, 19 at 0.95."""
    if not 0 < level < 1:
        raise InputError(f"level must be between 0 and 1, as 0.9, not {level}")
    return math.ceil(round(level / (1 - level), 9))


def conformal_half_width(residuals: NDArray[np.float64], *, level: float) -> float:
    """What a new row is off at most, with probability `level`; infinite with fewer than `rows_needed` residuals.

    The residuals must be of rows that were left out of the fit. That a new row is like them is all that is
    assumed, so the shift of a new session comes on top: `SessionSpread`. Of n residuals and a new one each is
    equally likely to have any rank, so the k-th of n is exceeded with probability 1 - k / (n + 1); where (n + 1) level
    is no whole number, the result lies between its two neighbours, and holds as often as `level` says if residuals are
    about as dense at both. Leaving out one row at a time makes this hold closely but not strictly.

    Args:
        residuals: Of either sign. Shape (n,).
        level: Probability with which the interval shall hold the truth.

    References:
        Barber, Candès, Ramdas, Tibshirani 2021, "Predictive inference with the jackknife+", eq. 1.1.
        Hyndman, Fan 1996, "Sample quantiles in statistical packages", definition 6.
    """
    if len(residuals) < rows_needed(level):
        return math.inf
    return float(np.quantile(np.abs(residuals), level, method="weibull"))


@dataclass(frozen=True)
class Level:
    """How another session differs from what was learned.

    Args:
        scale: Its latencies over the predicted ones.
        half_width: What a row of it is off the scaled prediction at most, relative to that.
    """

    scale: float
    half_width: float


def relevel(measured: NDArray[np.float64], predicted: NDArray[np.float64], *, level: float) -> Level:
    """The level of a session, from reference rows that were measured in it.

    A new session shifts all latencies more than it reorders them, and by that breaks intervals that were learned
    before it. The references must be spread evenly over the session: those of its start, when a device is not yet as it
    will be, are worse than none.

    The references are judged by a scale they took part in, which covers a little less the fewer they are; that they are
    spread evenly and not at random covers more (`hwgpt-session` of benchmarks/prediction_external.py prints the sum of
    both), so no reference is left out of its scale.

    Args:
        measured: Of the references, in the session. Shape (n,), seconds.
        predicted: Of the same rows. Shape (n,), seconds.
        level: Probability with which the interval shall hold the truth.
    """
    scale = float(np.median(measured / predicted))
    return Level(scale, conformal_half_width(measured / (scale * predicted) - 1, level=level))
