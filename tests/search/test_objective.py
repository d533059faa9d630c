import numpy as np
from numpy.typing import NDArray

from adaptare.predictor import Prediction
from adaptare.profiler import ModelShape, named_space
from adaptare.profiler.workloads.dimension import Dimension
from adaptare.search import PredictedLatency, PredictedUpperEnd
from adaptare.search.budget.objective import CodesPredictor

SITES = named_space(
    "sites",
    ModelShape.from_mapping(
        {
            "model_type": "llama",
            "num_hidden_layers": 1,
            "hidden_size": 32,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "vocab_size": 64,
        }
    ),
).dimensions


class TenPerCentAbove:
    """A millisecond for each unit of rank, on exactly the sites it knows."""

    def __init__(self, unit: str = "s") -> None:
        self.unit = unit

    def predict(self, codes: NDArray[np.int64], dimensions: tuple[Dimension, ...], /) -> Prediction:
        assert dimensions == SITES
        mean_s = 1e-3 * codes.sum(axis=1)
        return Prediction(mean_s, 0.9 * mean_s, 1.1 * mean_s, np.zeros(len(codes), dtype=np.bool_))


PREDICTOR: CodesPredictor = TenPerCentAbove()
CODES = np.array([[1] * len(SITES), [2] * len(SITES)])


def test_the_objective_is_the_middle_of_the_prediction_and_the_limited_cost_its_upper_end() -> None:
    middle, upper = PredictedLatency(PREDICTOR, SITES), PredictedUpperEnd(PREDICTOR, SITES)
    np.testing.assert_allclose(middle(CODES), [7e-3, 14e-3], rtol=1e-12)
    np.testing.assert_allclose(upper(CODES), [7.7e-3, 15.4e-3], rtol=1e-12)
    assert (middle.name, upper.name) == ("predicted_s", "predicted_upper_s")
    assert PredictedUpperEnd(TenPerCentAbove("J"), SITES).name == "predicted_upper_J"
