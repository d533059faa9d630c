from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.linear_model import LinearRegression
from sklearn.utils.estimator_checks import parametrize_with_checks

from adaptare.core import InputError
from adaptare.predictor.estimators.shrunken import ShrunkenLinear

Floats = NDArray[np.float64]
ONLY_PRIOR = (float("inf"),)


def rows(n: int, n_features: int, *, seed: int = 0) -> tuple[Floats, Floats]:
    """Costs that are proportional to the first column but for some of the others; columns of unequal scale."""
    rng = np.random.default_rng(seed)
    parts = rng.random((n, n_features - 1))
    X = np.hstack([parts.sum(axis=1, keepdims=True), parts * 10.0 ** rng.integers(-3, 4, n_features - 1)])
    return X, 1 + 0.1 * X[:, 0] + 0.01 * rng.standard_normal(n)


def penalised_fit(
    X: Floats, y: Floats, *, prior: list[int], strength: float, like: Floats
) -> Callable[[Floats], Floats]:
    """Least squares on rows extended by the penalty; centred and scaled by the rows in `like`."""
    others = [column for column in range(X.shape[1]) if column not in prior]
    scaled = (X - like.mean(axis=0)) / like.std(axis=0)
    design = np.hstack([np.ones((len(X), 1)), scaled[:, prior], scaled[:, others]])
    penalty = np.sqrt(len(like) * strength) * np.eye(design.shape[1])[1 + len(prior) :]
    solution = np.linalg.lstsq(np.vstack([design, penalty]), np.concatenate([y, np.zeros(len(others))]), rcond=None)[0]

    def predict(new: Floats) -> Floats:
        scaled = (new - like.mean(axis=0)) / like.std(axis=0)
        result: Floats = np.hstack([np.ones((len(new), 1)), scaled[:, prior], scaled[:, others]]) @ solution
        return result

    return predict


@parametrize_with_checks([ShrunkenLinear(prior_columns=(0,))])
def test_is_a_scikit_learn_estimator(estimator: BaseEstimator, check: Callable[[BaseEstimator], None]) -> None:
    check(estimator)


def test_solves_the_penalised_least_squares_it_states() -> None:
    X, y = rows(15, 6)
    fitted = ShrunkenLinear(prior_columns=(0, 3), strengths=(0.1,)).fit(X, y)
    expected = penalised_fit(X, y, prior=[0, 3], strength=0.1, like=X)
    np.testing.assert_allclose(fitted.predict(X), expected(X), rtol=1e-9)


def test_at_infinite_strength_is_least_squares_in_the_prior_columns() -> None:
    X, y = rows(15, 6)
    fitted = ShrunkenLinear(prior_columns=(0, 3), strengths=ONLY_PRIOR).fit(X, y)
    expected = LinearRegression().fit(X[:, [0, 3]], y).predict(X[:, [0, 3]])
    np.testing.assert_allclose(fitted.predict(X), expected, rtol=1e-9)
    np.testing.assert_allclose(ShrunkenLinear(strengths=ONLY_PRIOR).fit(X, y).predict(X), y.mean())


@pytest.mark.parametrize("n_features", [4, 25])
def test_left_out_residuals_are_those_of_refits(n_features: int) -> None:
    X, y = rows(12, n_features)
    fitted = ShrunkenLinear(prior_columns=(0,)).fit(X, y)
    for row, residual in enumerate(fitted.left_out_residuals()):
        rest = np.arange(12) != row
        refit = penalised_fit(X[rest], y[rest], prior=[0], strength=min(fitted.strength_, 1e12), like=X)
        assert residual == pytest.approx(y[row] - refit(X[[row]])[0], abs=1e-6)


def test_rows_are_left_out_with_others() -> None:
    """The first three together; the last one with the first, which is not left out with it."""
    X, y = rows(12, 4)
    fitted = ShrunkenLinear(prior_columns=(0,), strengths=(0.1,)).fit(X, y)
    apart = np.eye(12, dtype=bool)
    apart[:3, :3] = apart[11, 0] = True
    residuals = fitted.left_out_residuals(apart)
    refit = penalised_fit(X[3:], y[3:], prior=[0], strength=0.1, like=X)
    np.testing.assert_allclose(residuals[:3], y[:3] - refit(X[:3]), atol=1e-9)
    refit = penalised_fit(X[1:11], y[1:11], prior=[0], strength=0.1, like=X)
    np.testing.assert_allclose(residuals[11:], y[11:] - refit(X[11:]), atol=1e-9)
    np.testing.assert_allclose(residuals[3:11], fitted.left_out_residuals()[3:11])


def test_a_row_that_alone_determines_a_cost_is_compared_with_the_mean_of_the_others() -> None:
    X = np.array([[0.0], [0.0], [0.0], [1.0]])
    y = np.array([1.0, 2.0, 3.0, 9.0])
    fitted = ShrunkenLinear(prior_columns=(0,)).fit(X, y)
    assert fitted.left_out_residuals()[3] == pytest.approx(9.0 - 2.0)


def test_prior_columns_that_say_the_same_share_their_cost() -> None:
    X, y = rows(15, 3)
    twice = np.hstack([X[:, :1], 7 * X[:, :1]])
    fitted = ShrunkenLinear(prior_columns=(0, 1)).fit(twice, y)
    np.testing.assert_allclose(fitted.predict(twice), LinearRegression().fit(X[:, :1], y).predict(X[:, :1]))


def test_a_column_that_never_changes_has_no_part() -> None:
    X, y = rows(15, 6)
    X[:, 2] = 0.1
    fitted = ShrunkenLinear(prior_columns=(0, 2)).fit(X, y)
    assert fitted.coef_[2] == 0
    assert np.isfinite(fitted.coef_).all()


def test_measuring_the_same_rows_again_makes_the_fit_no_freer() -> None:
    """What is left of the truth is noise to every linear fit, and a row's twin would tell it."""
    X, _ = rows(20, 6)
    y = 1 + 0.1 * X[:, 0] + 0.1 * np.random.default_rng(3).standard_normal(20)
    once = ShrunkenLinear(prior_columns=(0,)).fit(X, y)
    again = ShrunkenLinear(prior_columns=(0,)).fit(np.repeat(X, 4, axis=0), np.repeat(y, 4))
    assert once.strength_ == again.strength_ > 0.1
    np.testing.assert_allclose(again.coef_, once.coef_, rtol=1e-6, atol=1e-12)


def test_leaves_the_prior_where_the_rows_say_so() -> None:
    X, y = rows(240, 8)
    y += 0.4 * (X[:, 1] - X[:, 1].mean()) / X[:, 1].std()
    fitted = ShrunkenLinear(prior_columns=(0,)).fit(X[:40], y[:40])
    prior = ShrunkenLinear(prior_columns=(0,), strengths=ONLY_PRIOR).fit(X[:40], y[:40])
    assert np.abs(fitted.predict(X[40:]) - y[40:]).mean() < 0.1 * np.abs(prior.predict(X[40:]) - y[40:]).mean()


def test_refuses_prior_columns_that_are_not_there() -> None:
    for column in (-1, 6):
        with pytest.raises(InputError, match=f"prior_columns must be 0 to 5 for 6 columns, not {column}"):
            ShrunkenLinear(prior_columns=(column,)).fit(*rows(15, 6))
