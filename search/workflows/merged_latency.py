"""Latency of adapters that exist only in merged form."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adaptare.predictor import Prediction
from adaptare.profiler import Column


@dataclass(frozen=True)
class MergedLatency:
    """Predicts the latency of the base for any ranks, because a merged adapter adds none.

    Args:
        base_s: Latency of the base, seconds.
    """

    base_s: float

    def predict(self, codes: NDArray[np.int64], columns: tuple[Column, ...], /) -> Prediction:
        """See `CodesPredictor.predict`."""
        same = np.full(len(codes), self.base_s)
        return Prediction(same, same, same, np.zeros(len(codes), dtype=np.bool_))
