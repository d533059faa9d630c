"""Predictors that earlier versions wrote."""

from pathlib import Path

import numpy as np
import pytest

from adaptare.core import InputError
from adaptare.predictor import load_predictor
from adaptare.predictor.intervals import PRIOR, base_spread
from adaptare.profiler import Configuration, ModelShape

KEPT = Path(__file__).parent / "kept"


def test_a_predictor_of_the_version_before_still_loads(shape: ModelShape) -> None:
    loaded = load_predictor(KEPT / "release-0-2-0-dev0")
    said = loaded.relative.predict_configs([Configuration.uniform(shape, rank) for rank in (1, 8, 32)])
    np.testing.assert_allclose(said.mean, [6.31164374e-4, 6.65175675e-4, 7.81785847e-4], rtol=1e-8)
    kept = np.log(np.array([6.37020736e-4, 6.71347615e-4, 7.89039774e-4]) / said.mean)
    widened = PRIOR.spread(np.ones(1)).widened(kept, loaded.level)
    np.testing.assert_allclose(np.log(said.upper / said.mean), widened, rtol=1e-2)
    assert loaded.base_spread == base_spread(np.zeros(1)), "the prior"
    assert (loaded.error_card.rows, loaded.device.device) == (40, "simulated:launch_s=5e-07")


def test_a_curved_predictor_of_schema_3_still_loads(shape: ModelShape) -> None:
    loaded = load_predictor(KEPT / "schema-3-curved")
    said = loaded.relative.predict_configs([Configuration.uniform(shape, rank) for rank in (1, 8, 32)])
    np.testing.assert_allclose(said.upper, [6.394351575e-4, 6.740753079e-4, 7.928415377e-4], rtol=1e-4)
    assert (loaded.chosen, loaded.lengths) == ("curved", (64,))


def test_a_predictor_that_was_interpolated_is_refused_with_what_to_do() -> None:
    with pytest.raises(InputError, match="interpolated it between two lengths; fit one predictor to the rows of both"):
        load_predictor(KEPT / "schema-3-interpolated")
