"""A regressor that knows the base: its ratio is 1, and what changes little of it is predicted with little error."""

from typing import Self

import numpy as np

from adaptare.predictor.regressor import Array, Regressor, left_out_residuals, unfitted


class Anchored:
    """Regressor whose prediction for the base is exactly 1, with the scale of its errors.

    The scale, `change`, is the square root of the share of what a configuration changes: the largest of its features,
    each over its largest value among the training rows. It is 0 for the base, and at most 1 for those rows. The
    variance of a sum of independent errors, one for each changed linear, grows in this way. What the regressor
    predicts for the base beyond 1 is subtracted in proportion to 1 - `change`.

    Args:
        regressor: Learns the ratio.
        columns: Features of the whole configuration; none: the base is not known, and `change` is 1.

    Attributes:
        fitted: The fitted regressor.
        largest: Largest absolute value of each feature, 0 for those that do not count; empty if the base is not known.
    """

    def __init__(self, regressor: Regressor, columns: tuple[int, ...] = ()) -> None:
        self.fitted, self._columns = regressor, list(columns)

    @classmethod
    def of(cls, fitted: Regressor, largest: Array) -> Self:
        """A fitted regressor with its largest features."""
        made = cls(fitted)
        made._know(largest)
        return made

    def _know(self, largest: Array) -> None:
        self.largest = largest
        self._beyond = float(self.fitted.predict(np.zeros((1, len(largest))))[0]) - 1 if len(largest) else 0.0

    def fit(self, X: Array, y: Array) -> Self:
        """Learns X of shape (n, n_features), y of shape (n,)."""
        self._X, self._y = X, y
        self.fitted = unfitted(self.fitted).fit(X, y)
        largest = np.zeros(X.shape[1] if self._columns else 0)
        largest[self._columns] = np.abs(X[:, self._columns]).max(axis=0)
        self._know(largest)
        return self

    def change(self, X: Array) -> Array:
        """Scale of the error of each row. Shape (n, n_features) -> (n,)."""
        if not len(self.largest):
            return np.ones(len(X))
        shares: Array = np.divide(np.abs(X), self.largest, out=np.zeros(X.shape), where=self.largest > 0).max(axis=1)
        return np.sqrt(shares)

    def predict(self, X: Array) -> Array:
        """Shape (m, n_features) -> (m,)."""
        return self.fitted.predict(X) - self._correction(X)

    def left_out_residuals(self, apart: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Array:
        """See `LeftOutRegressor`; the correction is that of all rows."""
        return left_out_residuals(self.fitted, self._X, self._y, apart) + self._correction(self._X)

    def _correction(self, X: Array) -> Array:
        return self._beyond * (1 - np.minimum(self.change(X), 1))
