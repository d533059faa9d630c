"""Predictors that the version before wrote."""

from pathlib import Path

import numpy as np

from adaptare.predictor import load_predictor
from adaptare.predictor.intervals.session_spread import PRIOR
from adaptare.profiler import Configuration, ModelShape


def test_a_predictor_of_the_version_before_still_loads(shape: ModelShape) -> None:
    loaded = load_predictor(Path(__file__).parent / "kept" / "release-0-2-0-dev0")
    said = loaded.predict_configs([Configuration.uniform(shape, rank) for rank in (1, 8, 32)])
    np.testing.assert_allclose(said.mean_s, [6.31164374e-4, 6.65175675e-4, 7.81785847e-4], rtol=1e-8)
    kept = np.array([6.37020736e-4, 6.71347615e-4, 7.89039774e-4]) / said.mean_s - 1
    widened = [PRIOR.spread(np.ones(1)).widened(each, loaded.level) for each in kept]
    np.testing.assert_allclose(said.upper_s / said.mean_s - 1, widened, rtol=1e-6)
    assert (loaded.error_card.rows, loaded.device.device) == (40, "simulated:launch_s=5e-07")
