"""Objectives and limits of a search, as functions of codes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.predictor import Prediction
from adaptare.profiler.workloads import Dimension


class Objective(Protocol):
    """Maps each configuration to a number; smaller is better."""

    @property
    def name(self) -> str:
        """Name of the objective, ending in its unit: `latency_s`, `loss_nats`."""
        ...

    def __call__(self, codes: NDArray[np.int64], /) -> NDArray[np.float64]:
        """Values of the objective. Shape (n, n_columns) -> (n,)."""
        ...


@dataclass(frozen=True)
class Limit:
    """Upper bound on a function of codes that is cheap to evaluate.

    Args:
        cost: The bounded quantity, for example the upper end of the predicted latency.
        bound: The largest value allowed, in the unit of `cost`; above zero.
    """

    cost: Objective
    bound: float

    def __post_init__(self) -> None:
        if not self.bound > 0:
            raise InputError(f"a limit on {self.cost.name} must be above zero, not {self.bound}")


@dataclass(frozen=True)
class LargestShare:
    """Largest share of its bound that a configuration uses of any limit, times the bound of the first limit."""

    limits: tuple[Limit, ...]

    @property
    def name(self) -> str:
        """Name of the first limited quantity."""
        return self.limits[0].cost.name

    def __call__(self, codes: NDArray[np.int64], /) -> NDArray[np.float64]:
        """Shape (n, n_columns) -> (n,), in the unit of the first limit."""
        shares = np.array([limit.cost(codes) / limit.bound for limit in self.limits])
        largest: NDArray[np.float64] = self.limits[0].bound * shares.max(axis=0)
        return largest


def joined(limits: Sequence[Limit]) -> Limit:
    """One limit that is met where all of some limits are; the only one of one."""
    first = limits[0]
    return first if len(limits) == 1 else Limit(LargestShare(tuple(limits)), first.bound)


class CodesPredictor(Protocol):
    """Predicts a quantity, such as latency, from codes."""

    @property
    def unit(self) -> str:
        """SI unit of the quantity."""
        ...

    def predict(self, codes: NDArray[np.int64], dimensions: tuple[Dimension, ...], /) -> Prediction:
        """Predictions for codes of shape (n, n_columns): ranks and widths."""
        ...


@dataclass(frozen=True)
class PredictedLatency:
    """Middle of the predicted latency, or of another predicted quantity: an objective.

    Args:
        predictor: Predictor for the device and phase.
        dimensions: Meaning of the columns of the codes.
    """

    predictor: CodesPredictor
    dimensions: tuple[Dimension, ...]

    @property
    def name(self) -> str:
        """Name that marks a prediction, with its unit."""
        return f"predicted_{self.predictor.unit}"

    def __call__(self, codes: NDArray[np.int64], /) -> NDArray[np.float64]:
        """Shape (n, n_columns) -> (n,), in the SI unit of the quantity."""
        return self.predictor.predict(codes, self.dimensions).mean


class PredictedUpperEnd(PredictedLatency):
    """Upper end of the predicted latency: the quantity that a budget limits."""

    @property
    def name(self) -> str:
        """Name that marks the upper end, with its unit."""
        return f"predicted_upper_{self.predictor.unit}"

    def __call__(self, codes: NDArray[np.int64], /) -> NDArray[np.float64]:
        """Shape (n, n_columns) -> (n,), in the SI unit of the quantity."""
        return self.predictor.predict(codes, self.dimensions).upper
