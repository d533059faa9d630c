"""Regressors that keep to the contract. A new one joins by one line in `REGRESSORS`."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from adaptare.predictor import Regressor
from adaptare.predictor.estimators.curved import Curved
from adaptare.predictor.estimators.nonnegative import NonNegativeLinear
from adaptare.predictor.estimators.shrunken import ShrunkenLinear
from adaptare.predictor.estimators.transferred import Transferred
from adaptare.testing import RegressorSuite


@dataclass(frozen=True)
class Case:
    name: str
    make: Callable[[], Regressor]


REGRESSORS = [
    Case("shrunken", ShrunkenLinear),
    Case("shrunken towards a line", lambda: ShrunkenLinear(prior_columns=(2,))),
    Case("non-negative", NonNegativeLinear),
    Case("curved", Curved),
    Case("transferred", Transferred),
]


@pytest.fixture(params=REGRESSORS, ids=lambda case: case.name)
def regressor(request: pytest.FixtureRequest) -> Regressor:
    return request.param.make()


class TestRegressor(RegressorSuite):
    """Every regressor of the list."""
