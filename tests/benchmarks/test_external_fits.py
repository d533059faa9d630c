"""Fits that only benchmarks use: rooflines, and the average of what rows cannot tell apart."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
from external_averaged import Averaged
from external_corrected import Corrected, Smooth
from external_few_shot import Columns, few_shot
from external_roofline import Roofline
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from adaptare.core import InputError
from adaptare.predictor.estimators.nonnegative import NonNegativeLinear
from adaptare.predictor.estimators.shrunken import ShrunkenLinear

Array = NDArray[np.float64]


@pytest.mark.slow
@parametrize_with_checks(
    [
        Roofline(),
        Averaged([("shrunken", ShrunkenLinear()), ("constant", DummyRegressor())]),
        Smooth(),
        Corrected(ShrunkenLinear(), ShrunkenLinear()),
    ]
)
def test_what_scikit_learn_asks_of_an_estimator(estimator: Any, check: Callable[[Any], None]) -> None:
    check(estimator)


@pytest.fixture
def work() -> Array:
    """Calls, bytes and FLOPs of forty architectures."""
    return np.random.default_rng(0).uniform((10, 1e5, 1e7), (200, 5e6, 1e9), size=(40, 3))


PRICES = np.array([2e-6, 1e-10, 1e-12])


def test_a_roofline_finds_launch_and_rates() -> None:
    rng = np.random.default_rng(0)
    X = np.exp(rng.uniform((4, 6), (20, 26), size=(200, 2)))
    factors = np.array([1e-9, 1e-12])
    times = 5e-6 + ((X * factors) ** 4).sum(axis=1) ** 0.25
    times[:5] *= 4  # five kernels of another kind must not move it
    fitted = Roofline().fit(X, times)
    assert fitted.launch_ == pytest.approx(5e-6, rel=0.05)
    assert fitted.factors_ == pytest.approx(factors, rel=0.05)
    assert fitted.predict(X[5:]) == pytest.approx(times[5:], rel=0.1)


@pytest.mark.parametrize(
    ("work", "latency", "message"),
    [(0.0, 1.0, "not 0 in all rows"), (-1.0, 1.0, "Negative values in data"), (1.0, 0.0, "latencies above 0")],
)
def test_a_roofline_refuses_what_no_kernel_has(work: float, latency: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Roofline().fit(np.full((5, 2), work), np.full(5, latency))


def test_fits_that_rows_speak_against_are_not_averaged(work: Array) -> None:
    rng = np.random.default_rng(0)
    columns = Columns(("calls", "bytes", "flops"), size=2, work=(0, 1, 2), smooth=(0, 1))
    by_kind = few_shot(columns).fit(work, 1e-4 + work @ PRICES * rng.lognormal(0, 0.001, size=40))
    assert "non-negative" in by_kind.averaged_
    assert not {"affine", "smooth"} & set(by_kind.averaged_)
    assert by_kind.errors_["non-negative"] < 0.2 * by_kind.errors_["affine"]
    wavy = work @ PRICES * (1 + 0.3 * np.sin(work[:, 0] / 40))
    assert set(few_shot(columns).fit(work, wavy).averaged_) <= {"smooth correction", "smooth"}


def constant(value: float) -> DummyRegressor:
    return DummyRegressor(strategy="constant", constant=value)


def test_fits_that_rows_cannot_tell_apart_are_averaged(work: Array) -> None:
    seconds = np.tile([1.0, 1.5], 20)
    fitted = Averaged([("high", constant(1.3)), ("low", constant(1.1)), ("far", constant(90.0))]).fit(work, seconds)
    assert fitted.averaged_ == ("high", "low")
    assert fitted.predict(work) == pytest.approx(np.full(40, 1.2))


def test_one_wild_row_does_not_excuse_a_fit(work: Array) -> None:
    wild = work.copy()
    wild[0, 0] = 1e9
    fitted = Averaged([("mean", constant(1.0)), ("calls", LinearRegression())]).fit(wild, np.ones(40) + wild[:, 0])
    assert fitted.averaged_ == ("calls",)
    steep = Averaged([("steep", Steep()), ("right", constant(1.0))]).fit(wild, np.ones(40))
    assert steep.averaged_ == ("right",)


class Steep(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn publishes no types
    """Right for rows like most, and far off for others."""

    def fit(self, X: Array, y: Array) -> "Steep":
        return self

    def predict(self, X: Array) -> Array:
        return np.maximum(1.0, X[:, 0] - 1e3)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_fit_that_predicts_no_numbers_is_left_out(work: Array, value: float) -> None:
    with pytest.raises(InputError, match="none of broken"):
        Averaged([("broken", Broken(value))]).fit(work, np.ones(40))
    fitted = Averaged([("broken", Broken(value)), ("right", constant(1.0))]).fit(work, np.ones(40))
    assert fitted.averaged_ == ("right",)


class Broken(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn publishes no types
    """Predicts what is no number."""

    def __init__(self, value: float = 0.0) -> None:
        self.value = value

    def fit(self, X: Array, y: Array) -> "Broken":
        return self

    def predict(self, X: Array) -> Array:
        return np.full(len(X), self.value)


def test_what_cannot_be_averaged_is_refused(work: Array) -> None:
    with pytest.raises(InputError, match="regressors to average"):
        Averaged().fit(work, np.ones(40))
    with pytest.raises(InputError, match="no latency of 0"):
        Averaged([("one", constant(1.0))]).fit(work, np.zeros(40))


def test_details_are_used_where_rows_suffice() -> None:
    rng = np.random.default_rng(0)
    flops, kind = rng.uniform(1e8, 1e9, size=80), rng.integers(0, 3, size=80)
    details = (kind[:, None] == np.arange(3)) * flops[:, None]
    X, seconds = np.column_stack([flops, details]), 1e-3 + 1e-11 * flops * np.array([1.0, 1.02, 0.97])[kind]
    columns = Columns(("flops", "a", "b", "c"), size=0, work=(0,), details=(1, 2, 3))
    fitted = few_shot(columns).fit(X, seconds)
    assert fitted.averaged_ == ("detailed",)
    assert fitted.predict(X) == pytest.approx(seconds, rel=2e-3)


def test_fits_work_inside_scikit_learn(work: Array) -> None:
    columns = Columns(("calls", "bytes", "flops"), size=2, work=(0, 1, 2))
    scores = cross_val_score(
        few_shot(columns), work, 1e-3 + work @ PRICES, cv=4, scoring="neg_mean_absolute_percentage_error"
    )
    assert (scores > -1e-6).all()
    assert isinstance(clone(few_shot(columns)), Averaged)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 2, "work": (0,)}, "columns must be 0 to 1"),
        ({"size": 0, "work": ()}, "at least one column must be work"),
    ],
)
def test_columns_that_are_not_there_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Columns(("flops", "calls"), **settings)


class Remembering(LinearRegression):
    """Notes which rows it sees, by their first column."""

    seen: ClassVar[list[tuple[set[float], set[float]]]] = []

    def fit(self, X: NDArray[np.float64], y: NDArray[np.float64]) -> "Remembering":
        """As ever, but noted."""
        self.fitted_ = set(X[:, 0].tolist())
        return super().fit(X, y)

    def predict(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """As ever, but noted."""
        self.seen.append((self.fitted_, set(X[:, 0].tolist())))
        return super().predict(X)


def test_what_is_averaged_is_chosen_by_rows_that_no_fit_has_seen() -> None:
    rng = np.random.default_rng(0)
    rows = rng.random((40, 2)) + 1
    Remembering.seen.clear()
    Averaged([("one", Remembering())]).fit(rows, rows.sum(axis=1))
    assert Remembering.seen
    for fitted, predicted in Remembering.seen:
        assert fitted.isdisjoint(predicted)
        assert fitted | predicted == set(rows[:, 0].tolist())


def test_a_correction_learns_what_the_mean_leaves(work: Array) -> None:
    seconds = (1e-3 + work @ PRICES) * (1 + 0.2 * np.sin(work[:, 0] / 60))
    plain, corrected = NonNegativeLinear(), Corrected(NonNegativeLinear(), Smooth(), (0, 1, 2), (0,))
    plain_off, corrected_off = (
        np.abs(clone(each).fit(work[:30], seconds[:30]).predict(work[30:]) / seconds[30:] - 1).mean()
        for each in (plain, corrected)
    )
    assert corrected_off < 0.5 * plain_off


def test_a_correction_never_explodes(work: Array) -> None:
    seconds = (1e-3 + work @ PRICES) * np.exp(work[:, 0] / 100)
    fitted = Corrected(NonNegativeLinear(), NonNegativeLinear()).fit(work, seconds)
    ratio = fitted.predict(1e3 * work) / fitted.mean_.predict(1e3 * work)
    assert (ratio <= 3 + 1e-9).all()
    with pytest.raises(InputError, match="every latency has to be above 0"):
        Corrected(NonNegativeLinear(), Smooth()).fit(work, seconds - seconds.max())
