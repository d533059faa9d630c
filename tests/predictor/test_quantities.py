"""Predictors of quantities other than latency."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adaptare.core import InputError
from adaptare.devices import SimulatedDevice
from adaptare.predictor import LatencyPredictor, load_predictor, save_predictor
from adaptare.profiler import Configuration, Measurement
from adaptare.profiler.store.samples import Samples

Campaign = Callable[..., list[Measurement]]
DrawConfigs = Callable[[int, int], list[Configuration]]

pytestmark = pytest.mark.usefixtures("without_card")


@pytest.fixture(scope="module")
def counted(campaign: Campaign, draw_configs: DrawConfigs, device: SimulatedDevice) -> list[Measurement]:
    """Rows whose energy is 3 J and 2 nJ for each moved byte, and whose latency is independent of it."""

    def joules(row: Measurement) -> float:
        return 3 + 2e-9 * row.workload.work().moved_bytes

    rows = campaign(draw_configs(20, 0), sigma=0.01)
    base = 3 + 2e-9 * rows[0].reference.work().moved_bytes
    return [replace(row, quantities={"energy": Samples("J", ((joules(row),),) * 5, ((base,),) * 5)}) for row in rows]


def test_a_quantity_is_predicted_in_its_unit(
    counted: list[Measurement], draw_configs: DrawConfigs, tmp_path: Path
) -> None:
    predictor = LatencyPredictor(quantity="energy").fit(counted)
    assert (predictor.quantity, predictor.unit) == ("energy", "J")
    unseen = draw_configs(20, 1)
    truth = [3 + 2e-9 * predictor.template.with_configuration(each).work().moved_bytes for each in unseen]
    assert predictor.predict_configs(unseen).mean == pytest.approx(truth, rel=1e-3)
    save_predictor(predictor, tmp_path)
    loaded = load_predictor(tmp_path)
    assert (loaded.quantity, loaded.unit, loaded.base_value) == ("energy", "J", predictor.base_value)
    np.testing.assert_array_equal(loaded.predict_configs(unseen).upper, predictor.predict_configs(unseen).upper)


def test_rows_without_the_quantity_are_left_out(counted: list[Measurement], campaign: Campaign) -> None:
    bare = [replace(row, quantities={}) for row in counted[:5]]
    assert LatencyPredictor(quantity="energy").fit([*bare, *counted[5:]]).error_card.rows == 15
    with pytest.raises(InputError, match="none of the 5 measurements is complete with energy; profile"):
        LatencyPredictor(quantity="energy").fit(bare)
