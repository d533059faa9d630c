"""Choosing among fits by what they are off on rows that they have not seen."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.utils.validation import check_is_fitted, validate_data


class SimplestGood(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn publishes no types
    """The first of some regressors whose cross-validated relative error is not clearly above the least one.

    Args:
        candidates: Pairs of a name and a regressor, the simplest first.
        folds: Of the cross-validation; at most as many as rows.
        standard_errors: So far above the least error, in standard errors of the difference, a simpler one may be.

    Attributes:
        chosen_: Name of the chosen one.
        errors_: Name -> mean relative error on rows left out.
        regressor_: The chosen one, fitted to all rows.

    References:
        Hastie, Tibshirani, Friedman 2009, "The elements of statistical learning", 7.10: the one-standard-error rule.
    """

    def __init__(
        self, candidates: Sequence[tuple[str, Any]] = (), folds: int = 10, standard_errors: float = 1.0
    ) -> None:
        self.candidates = candidates
        self.folds = folds
        self.standard_errors = standard_errors

    def fit(self, X: ArrayLike, y: ArrayLike) -> "SimplestGood":
        """X of shape (n_samples, n_features), y of shape (n_samples,), not 0."""
        checked: tuple[NDArray[np.float64], NDArray[np.float64]]
        checked = validate_data(self, X, y, y_numeric=True, dtype=np.float64, ensure_min_samples=2)
        columns, target = checked
        fold = np.random.default_rng(0).permutation(len(target)) % min(self.folds, len(target))
        left_out = {name: _left_out(regressor, columns, target, fold) for name, regressor in self.candidates}
        errors = {name: np.abs(found / target - 1) for name, found in left_out.items()}
        self.errors_ = {name: float(each.mean()) for name, each in errors.items()}
        best = min(self.errors_, key=self.errors_.__getitem__)
        self.chosen_ = next(name for name, each in errors.items() if self._good(each - errors[best]))
        self.regressor_ = clone(dict(self.candidates)[self.chosen_]).fit(columns, target)
        return self

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """Shape (n, n_features) -> (n,)."""
        check_is_fitted(self)
        checked: NDArray[np.float64] = validate_data(self, X, reset=False, dtype=np.float64)
        found: NDArray[np.float64] = self.regressor_.predict(checked)
        return found

    def _good(self, worse: NDArray[np.float64]) -> bool:
        return bool(worse.mean() <= self.standard_errors * worse.std() / np.sqrt(len(worse)))


def _left_out(
    regressor: Any, X: NDArray[np.float64], y: NDArray[np.float64], fold: NDArray[np.int64]
) -> NDArray[np.float64]:
    found = np.empty(len(y))
    for each in np.unique(fold):
        found[fold == each] = clone(regressor).fit(X[fold != each], y[fold != each]).predict(X[fold == each])
    return found
