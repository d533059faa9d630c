"""Objectives that keep to the contract. A new one joins by one line in `OBJECTIVES`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from adaptare.predictor import Prediction
from adaptare.profiler import ModelShape, Space, named_space
from adaptare.search import CompletionLoss, Objective, PredictedLatency, PredictedUpperEnd, SuperAdapter
from adaptare.testing import ObjectiveSuite

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "num_hidden_layers": 1,
    "hidden_size": 16,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 32,
    "vocab_size": 64,
}
SPACE = named_space("kinds", ModelShape.from_mapping(CONFIG), ranks=(0, 2, 4))


class PerRank:
    """A predictor: a microsecond for each rank."""

    unit = "s"

    def predict(self, codes: NDArray[np.int64], columns: object, /) -> Prediction:
        mean_s = 1e-6 * codes.sum(axis=1)
        return Prediction(mean_s, 0.9 * mean_s, 1.1 * mean_s, np.zeros(len(codes), dtype=np.bool_))


def completion_loss() -> Objective:
    from adaptare.profiler.models.random_model import random_model
    from adaptare.search.training.token_examples import TokenExample

    super_adapter = SuperAdapter(random_model(CONFIG), SPACE, seed=0)
    for number, tensor in enumerate(super_adapter.state().values()):
        tensor += 0.1 * (1 + number)
    return CompletionLoss(super_adapter, [TokenExample((5, 6, 7, 8, 9), 2), TokenExample((5, 6, 1, 2), 3)])


@dataclass(frozen=True)
class Case:
    name: str
    make: Callable[[], Objective]


OBJECTIVES = [
    Case("predicted latency", lambda: PredictedLatency(PerRank(), SPACE.dimensions)),
    Case("upper end of the prediction", lambda: PredictedUpperEnd(PerRank(), SPACE.dimensions)),
    Case("completion loss", completion_loss),
]


@pytest.fixture(scope="module", params=OBJECTIVES, ids=lambda case: case.name)
def objective(request: pytest.FixtureRequest) -> Objective:
    return request.param.make()


@pytest.fixture
def space() -> Space:
    return SPACE


class TestObjective(ObjectiveSuite):
    """Every objective of the list."""
