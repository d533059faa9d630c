"""Linear fit that is robust with few rows: least squares in few columns, with more only where they reduce the error."""

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from adaptare.core import InputError
from adaptare.predictor.estimators.estimator import LinearEstimator
from adaptare.predictor.regressor import rows_by_left_out_set

# From least squares in the prior columns to weak shrinkage. Weaker strengths, favoured by leave-one-out error by
# chance, cost some 10 % more error at 10 to 16 simulated rows and gained next to nothing at 40.
STRENGTHS = (float("inf"), *np.logspace(3, -2, 21).tolist())
# Chance favours weak strengths: a weaker one must be better by this many standard errors of the difference.
CLEARLY_BETTER = 0.5
# A row whose leverage is closer to 1 than this determines its prediction and cannot be left out.
SMALLEST_FREEDOM = 1e-8


class ShrunkenLinear(LinearEstimator):
    """Ridge regression that shrinks towards least squares in the prior columns instead of towards zero.

    Minimises |y - b - P g - Z d|^2 + n strength |d|^2, where P are the prior columns and Z the others, standardised.
    The strength is the strongest whose leave-one-out error, which has a closed form, is not clearly above the lowest;
    equal rows of X are left out together, because a duplicate would reveal the row.

    Args:
        prior_columns: Indices of the columns whose coefficients are not shrunk; none: shrinks towards the mean.
        strengths: Candidate strengths, strongest first; infinity is least squares in the prior columns.

    Attributes:
        coef_: Shape (n_features,).
        intercept_: The prediction at X = 0.
        strength_: The chosen strength.

    References:
        Hastie, Tibshirani, Friedman 2009, "The elements of statistical learning", eq. 3.47 and 7.64.
    """

    fewest_rows = 2

    def __init__(self, prior_columns: tuple[int, ...] = (), strengths: tuple[float, ...] = STRENGTHS) -> None:
        self.prior_columns = prior_columns
        self.strengths = strengths

    def left_out_residuals(self, apart: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """Residuals, by default of each row alone; of a row that the fit needs, from the mean of the others."""
        check_is_fitted(self)
        n = len(self._residuals)
        left_out = np.empty(n)
        for judged, rows in rows_by_left_out_set(np.eye(n, dtype=np.bool_) if apart is None else apart):
            basis, own = self._basis[rows], np.isin(rows, judged)
            freedom = np.eye(len(rows)) - (basis * self._gains) @ basis.T
            if np.linalg.eigvalsh(freedom)[0] > SMALLEST_FREEDOM:
                left_out[judged] = np.linalg.solve(freedom, self._residuals[rows])[own]
            else:
                others = np.delete(self._deviation, rows)
                left_out[judged] = self._deviation[judged] - (others.mean() if len(others) else 0.0)
        return left_out

    def _learn(self, X: NDArray[np.float64], y: NDArray[np.float64]) -> None:
        prior, others = _split(X.shape[1], self.prior_columns)
        centre, scale = X.mean(axis=0), _scale(X)
        Z = (X - centre) / scale
        self._deviation: NDArray[np.float64] = y - y.mean()

        prior_left, prior_singular, prior_right = _reduced_svd(Z[:, prior])
        fixed = np.hstack([np.full((len(y), 1), len(y) ** -0.5), prior_left])
        unexplained = self._deviation - fixed @ (fixed.T @ self._deviation)
        left, singular, right = _reduced_svd(Z[:, others] - fixed @ (fixed.T @ Z[:, others]))
        self._basis: NDArray[np.float64] = np.hstack([fixed, left])
        self._choose_strength(unexplained, left, singular, np.unique(X, axis=0, return_inverse=True)[1].ravel())

        kept = self._gains[fixed.shape[1] :] / singular
        slopes = np.zeros(X.shape[1])
        slopes[others] = right.T @ (kept * (left.T @ unexplained))
        for_prior = prior_left.T @ (self._deviation - Z[:, others] @ slopes[others])
        slopes[prior] = prior_right.T @ (for_prior / prior_singular)
        self.coef_: NDArray[np.float64] = slopes / scale
        self.intercept_ = float(y.mean() - centre @ self.coef_)

    def _choose_strength(
        self,
        unexplained: NDArray[np.float64],
        left: NDArray[np.float64],
        singular: NDArray[np.float64],
        same: NDArray[np.int64],
    ) -> None:
        """Compares errors of rows left out with their duplicates; the hat matrix is basis x gains x basis'.

        For m equal rows with leverage h, the block of the hat matrix is h everywhere, and identity minus it has the
        inverse I + h / (1 - m h).

        Args:
            unexplained: Residuals of the prior columns. Shape (n,).
            left: Directions of the other columns. Shape (n, n_directions).
            singular: Singular value of each direction. Shape (n_directions,).
            same: Group number of equal rows, from 0. Shape (n,).
        """
        n, n_fixed = len(unexplained), self._basis.shape[1] - left.shape[1]
        repeats = np.bincount(same)[same]
        strengths = np.array(self.strengths, dtype=np.float64)
        gains = singular**2 / (singular**2 + n * strengths[:, None])
        residuals = unexplained - (gains * (left.T @ unexplained)) @ left.T
        leverage = (self._basis[:, :n_fixed] ** 2).sum(axis=1) + gains @ (left**2).T
        freedom = 1 - repeats * leverage
        determined = freedom > SMALLEST_FREEDOM
        left_out = residuals + leverage / np.where(determined, freedom, 1) * _sums(residuals, same)[:, same]
        alone = self._deviation + _sums(self._deviation[None], same)[0, same] / np.maximum(n - repeats, 1)
        errors = _sums(np.where(determined, left_out, alone) ** 2 / repeats, same)
        worse = errors - errors[np.argmin(errors.mean(axis=1))]
        chosen = int(np.argmax(worse.mean(axis=1) <= CLEARLY_BETTER * worse.std(axis=1) / np.sqrt(errors.shape[1])))
        self.strength_ = float(strengths[chosen])
        self._residuals: NDArray[np.float64] = residuals[chosen]
        self._gains: NDArray[np.float64] = np.concatenate([np.ones(n_fixed), gains[chosen]])


def _sums(values: NDArray[np.float64], same: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sums over equal rows. Shape (m, n) -> (m, n_different)."""
    return np.stack([np.bincount(same, weights=row) for row in values])


def _split(n_features: int, prior_columns: tuple[int, ...]) -> tuple[list[int], list[int]]:
    outside = [column for column in prior_columns if not 0 <= column < n_features]
    if outside:
        raise InputError(f"prior_columns must be 0 to {n_features - 1} for {n_features} columns, not {outside[0]}")
    prior = sorted(set(prior_columns))
    return prior, [column for column in range(n_features) if column not in prior]


def _scale(X: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviations; infinite for a constant column, which removes it from the fit."""
    spread = X.std(axis=0)
    return np.where(spread > 1e-12 * np.abs(X).max(axis=0), spread, np.inf)


def _reduced_svd(
    matrix: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Singular value decomposition without the components that are rounding error."""
    left, singular, right = np.linalg.svd(matrix, full_matrices=False)
    kept = singular > 1e-10 * np.sqrt(matrix.size + 1)
    return left[:, kept], singular[kept], right[kept]
