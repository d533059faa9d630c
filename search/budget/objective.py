"""What a search minimises and what it must stay under, as functions of codes."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from adaptare.devices import InputError
from adaptare.profiler import Column


class Objective(Protocol):
    """A number per configuration; smaller is better."""

    @property
    def name(self) -> str:
        """What it is, with its unit at the end: `latency_s`, `loss_nats`."""
        ...

    def __call__(self, codes: NDArray[np.int64], /) -> NDArray[np.float64]:
        """Its values. Shape (n, n_columns) -> (n,)."""
        ...


@dataclass(frozen=True)
class Limit:
    """An upper bound on a function of codes that costs nothing to evaluate.

    Args:
        cost: What is bounded, for example the upper end of the predicted latency.
        bound: The largest value allowed, in the unit of `cost`; above zero.
    """

    cost: Objective
    bound: float

    def __post_init__(self) -> None:
        if not self.bound > 0:
            raise InputError(f"a limit on {self.cost.name} must be above zero, not {self.bound}")


class PredictedInterval(Protocol):
    """Predicted latencies of n configurations, each of shape (n,), seconds."""

    @property
    def mean_s(self) -> NDArray[np.float64]:
        """The middle."""
        ...

    @property
    def upper_s(self) -> NDArray[np.float64]:
        """The upper end of the interval."""
        ...


class CodesPredictor(Protocol):
    """Predicts latency from codes."""

    def predict(self, codes: NDArray[np.int64], columns: tuple[Column, ...], /) -> PredictedInterval:
        """Predictions for codes of shape (n, n_columns): ranks and widths."""
        ...


@dataclass(frozen=True)
class PredictedLatency:
    """The middle of the predicted latency: an objective.

    Args:
        predictor: Of the device and phase in question.
        columns: Of the codes.
    """

    predictor: CodesPredictor
    columns: tuple[Column, ...]

    @property
    def name(self) -> str:
        """Says that it is predicted, and its unit."""
        return "predicted_latency_s"

    def __call__(self, codes: NDArray[np.int64], /) -> NDArray[np.float64]:
        """Shape (n, n_columns) -> (n,), seconds."""
        return self.predictor.predict(codes, self.columns).mean_s


@dataclass(frozen=True)
class PredictedUpperEnd:
    """The upper end of the predicted latency: what a budget limits.

    Args:
        predictor: Of the device and phase in question.
        columns: Of the codes.
    """

    predictor: CodesPredictor
    columns: tuple[Column, ...]

    @property
    def name(self) -> str:
        """Says that it is the upper end, and its unit."""
        return "predicted_upper_s"

    def __call__(self, codes: NDArray[np.int64], /) -> NDArray[np.float64]:
        """Shape (n, n_columns) -> (n,), seconds."""
        return self.predictor.predict(codes, self.columns).upper_s
