"""Contract of a regressor: the part of a predictor that learns from rows of features."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, Self, TypeVar, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from adaptare.core import InputError
from adaptare.core.extensions import extension, extensions

REGRESSORS = "adaptare.regressors"
Array = NDArray[np.float64]
State = Mapping[str, NDArray[Any]]


class Fit(Protocol):
    """The part of a `Regressor` that fits and evaluates it."""

    def fit(self, X: Array, y: Array) -> Self:
        """Learns X of shape (n, n_features), y of shape (n,), above 0, and returns itself; forgets earlier rows."""
        ...

    def predict(self, X: Array) -> Array:
        """Shape (m, n_features) -> (m,); each row by itself."""
        ...


@runtime_checkable
class Regressor(Fit, Protocol):
    """Learns the ratio of latencies to the base's from physical features; see `FeatureSet` for their columns.

    Handed to `LatencyPredictor(regressor=...)`, or named by an entry point in the group `adaptare.regressors`, which is
    called without arguments. Every fit is made on a copy: scikit-learn's `clone`, or a deep copy of any other class.
    """

    def state(self) -> State:
        """Everything that `predict` needs, as named arrays of numbers or text; the content of a predictor file."""
        ...

    @classmethod
    def from_state(cls, state: State) -> Self:
        """A fitted regressor that predicts exactly as the one whose state this is."""
        ...


@runtime_checkable
class LinearRegressor(Regressor, Protocol):
    """A regressor with a linear part, which can be transferred to another device."""

    @property
    def coef_(self) -> Array:
        """Coefficient of each feature, once fitted. Shape (n_features,)."""
        ...


@runtime_checkable
class LeftOutRegressor(Fit, Protocol):
    """A regressor that knows the errors of left-out rows without being fitted again."""

    def left_out_residuals(self, apart: NDArray[np.bool_]) -> Array:
        """Residual of each training row when it and others are left out, all else equal.

        Args:
            apart: True if row j is left out when row i is evaluated; true where i = j. Shape (n_samples, n_samples).
        """
        ...


Copied = TypeVar("Copied", bound=Fit)


def unfitted(regressor: Copied) -> Copied:
    """A copy to be fitted."""
    return cast(Copied, clone(regressor, safe=False))


def left_out_residuals(regressor: Fit, X: Array, y: Array, apart: NDArray[np.bool_]) -> Array:
    """Residual of each training row of a fit when it and others are left out, all else equal. Shape (n,).

    A row without which nothing is left is compared with the mean of all.

    Args:
        X: Shape (n, n_features).
        y: Shape (n,).
        apart: True if row j is left out when row i is evaluated; true where i = j. Shape (n, n).
    """
    if isinstance(regressor, LeftOutRegressor):
        return regressor.left_out_residuals(apart)
    left_out = np.empty(len(y))
    for judged, rows in rows_by_left_out_set(apart):
        seen = np.delete(np.arange(len(y)), rows)
        predicted = unfitted(regressor).fit(X[seen], y[seen]).predict(X[judged]) if len(seen) else y.mean()
        left_out[judged] = y[judged] - predicted
    return left_out


def rows_by_left_out_set(apart: NDArray[np.bool_]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Rows with the same held-out set, and that set; both ascending, the first a subset of the second."""
    patterns, members = np.unique(apart, axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        yield np.flatnonzero(members == number), np.flatnonzero(pattern)


def registered_class(name: str) -> type[Regressor]:
    """The registered class of this name. Raises `InputError` if no installed package registers it."""
    return cast(type[Regressor], extension(REGRESSORS, name, kind="regressor"))


def name_of(made: type[Regressor]) -> str:
    """Name of a class in predictor files: that of its entry point, or else its own."""
    package = made.__module__.partition(".")[0]
    own = (entry for entry in extensions(REGRESSORS).values() if entry.module.partition(".")[0] == package)
    return next((entry.name for entry in own if entry.load() is made), made.__qualname__)


def check_regressor(regressor: object) -> None:
    """Raises `InputError` unless it has the methods of a `Regressor`."""
    if isinstance(regressor, type):
        raise InputError(f"a regressor is an object, not a class; hand {regressor.__name__}() over")
    lacking = [name for name in ("fit", "predict", "state", "from_state") if not hasattr(regressor, name)]
    if lacking:
        raise InputError(
            f"a regressor needs fit, predict, state and from_state; {type(regressor).__name__} has no "
            f"{' and no '.join(lacking)}; wrap it in a class that has them, as docs/extending.md shows"
        )
