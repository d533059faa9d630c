"""A regressor that is asked for or handed over, instead of a choice between several."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor
from toy_regressor import Nearby

from adaptare.core import InputError
from adaptare.predictor import LatencyPredictor, Regressor, save_predictor
from adaptare.predictor.estimators.nonnegative import NonNegativeLinear
from adaptare.predictor.regressor import left_out_residuals, name_of
from adaptare.profiler import Configuration, Measurement

Campaign = Callable[..., list[Measurement]]
DrawConfigs = Callable[[int, int], list[Configuration]]

pytestmark = pytest.mark.usefixtures("without_card")


@pytest.mark.parametrize("name", ["FLOPs-affine", "non-negative", "curved", "transferred"])
def test_a_regressor_is_asked_for_by_its_name(campaign: Campaign, draw_configs: DrawConfigs, name: str) -> None:
    predictor = LatencyPredictor(regressor=name).fit(campaign(draw_configs(12, 0)))
    assert predictor.chosen == name
    assert predictor.reason == "the requested regressor"
    assert name not in predictor.error_card.baselines
    assert "constant" in predictor.error_card.baselines


@pytest.mark.parametrize(
    ("regressor", "message"),
    [
        (RandomForestRegressor(), "RandomForestRegressor has no state and no from_state; wrap it in a class"),
        (Nearby, r"a regressor is an object, not a class; hand Nearby\(\) over"),
    ],
)
def test_what_is_no_regressor_is_refused_before_anything_is_fitted(regressor: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        LatencyPredictor(regressor=regressor)


def test_a_name_that_nobody_registers_is_refused(campaign: Campaign, draw_configs: DrawConfigs) -> None:
    with pytest.raises(InputError, match="unknown regressor 'forest'; installed packages register curved, non-neg"):
        LatencyPredictor(regressor="forest").fit(campaign(draw_configs(12, 0)))


def test_only_what_has_coefficients_is_transferred_and_by_its_own_regressor(
    campaign: Campaign, draw_configs: DrawConfigs
) -> None:
    rows, asked = campaign(draw_configs(12, 0)), Nearby()
    source = replace(LatencyPredictor(regressor=asked).fit(rows), workloads=())
    assert source.chosen == "Nearby"
    assert not hasattr(asked, "rows"), "what is handed over is not changed"
    with pytest.raises(InputError, match="give a source or a regressor, not both"):
        LatencyPredictor(regressor="curved").fit(rows, source=source)
    with pytest.raises(InputError, match="the regressor Nearby has no coefficients to transfer"):
        LatencyPredictor().fit(rows, source=source)


class Secretive(Nearby):
    def state(self) -> dict[str, Any]:
        return {**super().state(), "self": np.array(self, dtype=object)}


def test_a_state_of_objects_cannot_be_saved(campaign: Campaign, draw_configs: DrawConfigs, tmp_path: Path) -> None:
    predictor = LatencyPredictor(regressor=Secretive()).fit(campaign(draw_configs(12, 0)))
    with pytest.raises(InputError, match=r"arrays of numbers or text, and 'state\.self' holds objects"):
        save_predictor(predictor, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_regressor_without_left_out_residuals_is_fitted_again() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.random((8, 2)), 1 + rng.random(8)
    fitted: Regressor = NonNegativeLinear().fit(X, y)
    alone = NonNegativeLinear().fit(X[1:], y[1:]).predict(X[:1])[0]
    assert left_out_residuals(fitted, X, y, np.eye(8, dtype=np.bool_))[0] == pytest.approx(y[0] - alone)
    everything = np.ones((8, 8), dtype=np.bool_)
    assert left_out_residuals(fitted, X, y, everything) == pytest.approx(y - y.mean())


def test_a_class_is_known_by_its_entry_point_and_else_by_its_own_name() -> None:
    assert (name_of(NonNegativeLinear), name_of(Nearby)) == ("non-negative", "Nearby")
