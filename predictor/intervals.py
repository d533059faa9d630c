"""Prediction intervals: conformal half-widths, and the shift of a whole session, which one session does not show."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from adaptare.core import InputError
from adaptare.profiler.analysis import LEVEL, Interval

Array = NDArray[np.float64]
# Standard deviation of the shift of one session's ratios, and its degrees of freedom, if a store has one session, and
# the same of the base's seconds (`priors` of `benchmarks/decisions.py`).
PRIOR_SD, PRIOR_DEGREES = 0.0063, 24
BASE_PRIOR_SD, BASE_PRIOR_DEGREES = 0.058, 26
# The same of the base within one session, beyond the spread of its first openings.
DRIFT_PRIOR_SD, DRIFT_PRIOR_DEGREES = 0.024, 34
# With fewer adapters, their individual errors exceed the shift of the session.
FEWEST_ADAPTERS = 5


@dataclass(frozen=True)
class SessionSpread:
    """Student's t distribution of a new session's shift beyond the residuals of a fit, as a logarithm.

    Args:
        scale: Scale of the distribution; of several rows, shape (n,).
        degrees: Its degrees of freedom; infinite for a normal distribution. Shape as `scale`.
    """

    scale: float | Array
    degrees: float | Array = math.inf

    def half_width(self, level: float) -> float | Array:
        """Half-width of the interval around 0 that holds the shift with probability `level`."""
        found: float | Array = self.scale * special.stdtrit(self.degrees, (1 + level) / 2)
        return found

    def times(self, factor: Array) -> "SessionSpread":
        """The shift of rows that have these shares of it. Shape (n,)."""
        return SessionSpread(self.scale * factor, self.degrees)

    def plus(self, other: "SessionSpread") -> "SessionSpread":
        """The sum with an independent shift: a t distribution of the same variance.

        References:
            Welch 1947, "The generalization of Student's problem when several different population variances are
            involved", eq. 28.
        """
        total = np.square(self.scale) + np.square(other.scale)
        spread = np.power(self.scale, 4) / self.degrees + np.power(other.scale, 4) / other.degrees
        degrees = np.divide(np.square(total), spread, out=np.full(np.shape(total), math.inf), where=spread > 0)
        return SessionSpread(np.sqrt(total), degrees)

    def widened(self, half_width: float | Array, level: float) -> Array:
        """Half-width for a row of a new session: that for a known session plus the shift, in quadrature."""
        return np.hypot(half_width, self.half_width(level))

    def probability_below(self, shifts: Array) -> Array:
        """Probability that the shift is at most each of these. Shape (n_residuals, n), n as of the scale."""
        known = np.asarray(self.scale) == 0
        below = special.stdtr(self.degrees, shifts / np.where(known, 1.0, self.scale))
        return np.where(known, shifts >= 0, below)


NO_SPREAD = SessionSpread(0.0, 1.0)


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
BASE_PRIOR = SessionVariance(BASE_PRIOR_SD**2, BASE_PRIOR_DEGREES)
DRIFT_PRIOR = SessionVariance(DRIFT_PRIOR_SD**2, DRIFT_PRIOR_DEGREES)


def base_spread(shifts: Array, *, prior: SessionVariance = BASE_PRIOR) -> SessionSpread:
    """Spread of the base's value in a new session around its calibration.

    The session of the calibration tells nothing of that. Each other session counts as one degree of freedom beside
    those of the prior, so the sessions of a store replace it as they become many.

    Args:
        shifts: Logarithm of the base's value over its calibration in each session of a store. Shape (n_sessions,).
        prior: Knowledge from other devices, about one session.

    References:
        Gelman et al. 2013, "Bayesian Data Analysis", section 2.6 (normal distribution of known mean).
    """
    degrees = prior.degrees + len(shifts) - 1
    return SessionSpread(math.sqrt((prior.degrees * 2 * prior.variance + float(shifts @ shifts)) / degrees), degrees)


def spread_since(base: Interval, openings: int, *, drift: SessionVariance = DRIFT_PRIOR) -> SessionSpread:
    """Spread of the base's value in the rest of a session around a short measurement at its start.

    Successive openings are not independent, so the rest of the session may differ as much as one more opening would; it
    also drifts by more than the openings of a short measurement show.

    Args:
        base: Measured value, with its 95 % interval.
        openings: Fresh loads of the program that the interval is over; two or more.
        drift: Change of the base's value beyond the spread of the openings.
    """
    error = math.log(base.upper / base.middle) / float(special.stdtrit(openings - 1, (1 + LEVEL) / 2))
    return SessionSpread(error * math.sqrt(openings + 1), openings - 1).plus(
        SessionSpread(math.sqrt(drift.variance), drift.degrees)
    )


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


def without_noise(errors: Array, change: Array, noise: Array) -> Array:
    """Errors of a fit over their scale, without the part that is measurement error of the left-out rows. Shape (n,).

    The variance of an error is that of the fit, in proportion to `change` squared, plus `noise`. The variance of the
    fit is what the noise does not explain, and at least the standard error of the variance of n errors, below which
    they cannot tell it. Each error is reduced to its expected part in the fit.

    Args:
        errors: Log of measured over predicted, of rows that were left out. Shape (n,).
        change: See `Anchored.change`. Shape (n,).
        noise: Variance of the measurement error of each row; 0 where it is not known. Shape (n,).
    """
    if not change.any():
        return errors
    total = float(np.mean(errors**2))
    known = float(noise.mean())
    unknown = max(total - known, total * math.sqrt(2 / len(errors))) if known else total
    scale = math.sqrt(unknown / float(np.mean(change**2)))
    expected = np.sqrt(np.square(scale * change) + (noise * (total - unknown) / known if known else 0.0))
    return scale * np.divide(errors, expected, out=np.zeros(len(errors)), where=expected > 0)


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
