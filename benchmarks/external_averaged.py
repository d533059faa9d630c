"""Average of the regressors whose cross-validated error is close to the best."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from adaptare.core import InputError
from adaptare.predictor.estimators.estimator import Estimator


class Averaged(Estimator):
    """Mean of the regressors whose cross-validated relative error is not significantly above the lowest.

    Ten rows seldom show which fit is best. Choosing one of several indistinguishable fits amounts to fitting noise, and
    averaging fits whose errors differ reduces the error.

    Args:
        candidates: Pairs of a name and a regressor.
        folds: Folds of the cross-validation; at most as many as rows.
        standard_errors: Allowed excess over the lowest error, in standard errors of the difference; a candidate with
            twice the lowest error is excluded in any case.

    Attributes:
        averaged_: Names of the averaged candidates.
        errors_: Name -> mean relative error on held-out rows.
        regressors_: The averaged candidates, fitted to all rows.

    References:
        Claeskens, Hjort 2008, "Model selection and model averaging", chapter 7.
    """

    fewest_rows = 3
    only_positive = True

    def __init__(
        self, candidates: Sequence[tuple[str, Any]] = (), folds: int = 10, standard_errors: float = 2.0
    ) -> None:
        self.candidates = candidates
        self.folds = folds
        self.standard_errors = standard_errors

    def _learn(self, X: NDArray[np.float64], y: NDArray[np.float64]) -> None:
        if not self.candidates or not y.all():
            raise InputError("there must be regressors to average, and no latency of 0, which has no relative error")
        fold = np.random.default_rng(0).permutation(len(y)) % min(self.folds, len(y))
        left_out = {name: _left_out(regressor, X, y, fold) for name, regressor in self.candidates}
        errors = {name: np.abs(found / y - 1) for name, found in left_out.items()}
        errors = {name: np.where(np.isnan(each), np.inf, each) for name, each in errors.items()}
        self.errors_ = {name: float(each.mean()) for name, each in errors.items()}
        best = min(self.errors_, key=self.errors_.__getitem__)
        if not np.isfinite(self.errors_[best]):
            raise InputError(f"none of {', '.join(self.errors_)} predicts rows that were left out")
        self.averaged_ = tuple(name for name, each in errors.items() if self._good(each, errors[best]))
        self.regressors_ = [clone(dict(self.candidates)[name]).fit(X, y) for name in self.averaged_]

    def _answer(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = np.mean([each.predict(X) for each in self.regressors_], axis=0)
        return found

    def _good(self, errors: NDArray[np.float64], least: NDArray[np.float64]) -> bool:
        if not errors.mean() <= 2 * least.mean():
            return False
        worse = errors - least
        return bool(worse.mean() <= self.standard_errors * worse.std() / np.sqrt(len(worse)))


def _left_out(
    regressor: Any, X: NDArray[np.float64], y: NDArray[np.float64], fold: NDArray[np.int64]
) -> NDArray[np.float64]:
    found = np.empty(len(y))
    for each in np.unique(fold):
        found[fold == each] = clone(regressor).fit(X[fold != each], y[fold != each]).predict(X[fold == each])
    return found
