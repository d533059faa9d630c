"""Errors of a fit, and of the choice between fits, on rows that neither has seen."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from adaptare.predictor.fitting import cross_validation
from adaptare.predictor.fitting.candidates import candidates
from adaptare.predictor.fitting.cross_validation import cross_validate
from adaptare.predictor.fitting.training_rows import Rows

CANDIDATES = candidates()
LINEAR = {name: CANDIDATES[name] for name in ("shrunken", "constant", "sites-affine", "FLOPs-affine")}


class Spy(BaseEstimator):  # type: ignore[misc]  # scikit-learn publishes no types
    """Notes by which rows it was fitted, and of which it was asked; rows are known by their first column."""

    def __init__(self, judged: list[tuple[set[float], set[float]]]) -> None:
        self.judged = judged

    def __sklearn_clone__(self) -> "Spy":
        return Spy(self.judged)

    def fit(self, X: NDArray[np.float64], y: NDArray[np.float64]) -> "Spy":
        self.seen_ = set(X[:, 0].tolist())
        return self

    def predict(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        self.judged.append((self.seen_, set(X[:, 0].tolist())))
        return np.ones(len(X))


def alone(n: int) -> NDArray[np.str_]:
    """Every row of a workload of its own, all in one session."""
    return np.array([[str(row), "0", "0", str(row)] for row in range(n)])


def test_rows_are_judged_by_fits_that_have_not_seen_them() -> None:
    n, judged = 24, list[tuple[set[float], set[float]]]()
    X, ratios = np.arange(float(n))[:, None], 1 + np.arange(n) / n
    groups = np.array([[str(row // 2), "0", "0", str(row // 2)] for row in range(n)])
    spies = {name: Spy(judged) for name in LINEAR}
    predicted, procedure = cross_validate(spies, Rows(X, ratios, groups, np.zeros(n)), level=0.9)
    assert all(not seen & asked for seen, asked in judged)
    # Neither has it seen the other row of the same workload.
    assert all(not {row + 1 - 2 * (row % 2) for row in asked} & seen for seen, asked in judged)
    assert predicted["shrunken"] == pytest.approx(np.ones(n))
    assert procedure.ratios == pytest.approx(np.ones(n))


def test_the_choice_is_made_without_the_rows_that_it_is_judged_by(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen_by = []

    def choose(left_out: Mapping[str, Any], rows: Rows) -> str:
        chosen_by.append(set(rows.ratios.tolist()))
        return "constant" if rows.ratios.max() == 2 else "shrunken"

    monkeypatch.setattr(cross_validation, "choose_candidate", choose)
    rng = np.random.default_rng(0)
    X, ratios = rng.random((20, 4)), np.linspace(1, 2, 20)
    predicted, procedure = cross_validate(LINEAR, Rows(X, ratios, alone(20), np.zeros(20)), level=0.9)
    # Ten folds of two: every row was left out of one choice.
    assert [len(each) for each in chosen_by] == [18] * 10
    assert all(sum(ratio in each for each in chosen_by) == 9 for ratio in ratios)
    assert procedure.ratios[-1] == predicted["shrunken"][-1]
    assert (procedure.ratios == predicted["constant"]).sum() == 18
