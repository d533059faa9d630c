"""Prediction intervals: conformal half-widths, and the shift of a whole session, which one session does not show."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from adaptare.core import InputError

# Standard deviation of that shift, and its degrees of freedom, if a store has one session: two sessions each of four
# cells (ONNX Runtime int4 decode, fp32 decode and prefill, PyTorch fp32 decode; 79 adapters measured in both) shifted
# by -0.46, 0.80, 0.20 and -0.11 %, of which noise explains 0.34, 0.19, 0.54 and 0.08; half of the remaining mean square
# is the variance of one session (`session_prior` of `benchmarks/prediction_on_device.py --kept`).
PRIOR_SD, PRIOR_DEGREES = 0.0034, 4
# With fewer adapters, their individual errors exceed the shift of the session.
FEWEST_ADAPTERS = 5


@dataclass(frozen=True)
class SessionSpread:
    """Student's t distribution of a new session's shift beyond the residuals of a fit; relative to the ratio."""

    scale: float
    degrees: float = PRIOR_DEGREES

    def half_width(self, level: float) -> float:
        """Half-width of the interval around 0 that holds the shift with probability `level`."""
        return self.scale * float(special.stdtrit(self.degrees, (1 + level) / 2))

    def plus(self, error: float) -> "SessionSpread":
        """The shift with another independent error of this standard deviation."""
        return SessionSpread(math.hypot(self.scale, error), self.degrees)

    def widened(self, half_width: float, level: float) -> float:
        """Half-width for a row of a new session: that for a known session plus the shift, in quadrature."""
        return math.hypot(half_width, self.half_width(level))

    def probability_below(self, shifts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probability that the shift is at most each of these; same shape as `shifts`."""
        if self.scale == 0:
            return (shifts >= 0).astype(np.float64)
        below: NDArray[np.float64] = special.stdtr(self.degrees, shifts / self.scale)
        return below


@dataclass(frozen=True)
class SessionVariance:
    """Variance of the relative shift of one session, with the degrees of freedom of the estimate."""

    variance: float
    degrees: float

    def spread(self, shares: NDArray[np.float64]) -> SessionSpread:
        """Part of a new session's shift that is missing from the residuals of a fit to several sessions.

        With shares p of the rows, the difference of a new session from their mean has (1 + sum p^2) times the variance
        of one session, and the residuals contain (1 - sum p^2) times it: almost all with many sessions, none with one.

        Args:
            shares: Share of the rows in each session; their sum is 1. Shape (n_sessions,).
        """
        return SessionSpread(math.sqrt(2 * self.variance * float(np.sum(shares**2))), self.degrees)


PRIOR = SessionVariance(PRIOR_SD**2, PRIOR_DEGREES)


def session_spread(
    errors: NDArray[np.float64],
    sessions: NDArray[np.str_],
    adapters: NDArray[np.str_],
    *,
    prior: SessionVariance = PRIOR,
) -> SessionSpread:
    """Spread of a new session: the prior, or the spread of the means of two or more sessions where it is larger.

    A few sessions that agree by chance do not narrow the prior: averaging both would also understate the differences
    between sessions of an unusual device, which the prior does not cover.

    Args:
        errors: Relative error of each row when its adapter, but not its session, is left out. Shape (n,).
        sessions: Session of each row. Shape (n,).
        adapters: Adapter of each row. Shape (n,).
        prior: Knowledge from other devices.

    References:
        Searle, Casella, McCulloch 1992, "Variance components", section 3.6 (unweighted means).
    """
    labels, counts = np.unique(sessions, return_counts=True)
    samples = [
        errors[sessions == label] for label in labels if len(np.unique(adapters[sessions == label])) >= FEWEST_ADAPTERS
    ]
    if len(samples) > 1:
        means, sizes = [sample.mean() for sample in samples], np.array([len(sample) for sample in samples])
        squares = sum(((sample - mean) ** 2).sum() for sample, mean in zip(samples, means, strict=True))
        between = np.var(means, ddof=1) - squares / (sizes - 1).sum() * np.mean(1 / sizes)
        prior = SessionVariance(max(prior.variance, float(between)), prior.degrees + len(samples) - 1)
    return prior.spread(counts / counts.sum())


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
