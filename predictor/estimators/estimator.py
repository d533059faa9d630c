"""Regressors of scikit-learn whose arrays are checked in one place."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

Array = NDArray[np.float64]


class Estimator(RegressorMixin, BaseEstimator, ABC):  # type: ignore[misc]  # scikit-learn publishes no types
    """Base of a regressor that learns and answers with checked arrays."""

    fewest_rows: ClassVar[int] = 1
    fewest_columns: ClassVar[int] = 1
    # Targets must be above 0, and results on other data than latencies are poor: what scikit-learn's checks may expect.
    only_positive: ClassVar[bool] = False
    only_latencies: ClassVar[bool] = False

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """X of shape (n_samples, n_features), y of shape (n_samples,)."""
        least = {"ensure_min_samples": self.fewest_rows, "ensure_min_features": self.fewest_columns}
        self._learn(*validate_data(self, X, y, y_numeric=True, dtype=np.float64, **least))
        return self

    def predict(self, X: ArrayLike) -> Array:
        """Shape (n, n_features) -> (n,)."""
        check_is_fitted(self)
        return self._answer(validate_data(self, X, reset=False, dtype=np.float64))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.positive_only = self.only_positive
        tags.regressor_tags.poor_score = self.only_latencies
        return tags

    @abstractmethod
    def _learn(self, X: Array, y: Array) -> None: ...

    @abstractmethod
    def _answer(self, X: Array) -> Array: ...


class LinearEstimator(Estimator, ABC):
    """Base of a regressor that answers with `X @ coef_ + intercept_`; see `Regressor`."""

    coef_: Array
    intercept_: float

    def state(self) -> dict[str, NDArray[Any]]:
        return {"coefficients": self.coef_, "intercept": np.array(self.intercept_)}

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> Self:
        made = cls()
        made.coef_, made.intercept_ = state["coefficients"], float(state["intercept"])
        made.n_features_in_ = len(made.coef_)
        return made

    def _answer(self, X: Array) -> Array:
        return X @ self.coef_ + self.intercept_
