"""Samples of one quantity of a workload and of its reference."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.profiler.analysis.intervals import Interval, ratio_interval


@dataclass(frozen=True)
class Samples:
    """Samples of one quantity; each round is a fresh load of the programs.

    Args:
        unit: SI unit.
        rounds: Samples of each round; empty for a round without a sample.
        reference_rounds: Those of the reference in the same rounds.
        failure: Reason that it could not be measured; empty on success.
    """

    unit: str
    rounds: tuple[tuple[float, ...], ...] = field(default=(), repr=False)
    reference_rounds: tuple[tuple[float, ...], ...] = field(default=(), repr=False)
    failure: str = ""

    @cached_property
    def value(self) -> Interval:
        """Typical value with a 95 % interval over rounds; infinite for a single round with few samples."""
        return self._interval(_medians(self.rounds))

    @cached_property
    def ratio(self) -> Interval:
        """Ratio to the reference in the same rounds, with a 95 % interval over them."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self._interval(_medians(self.rounds) / _medians(self.reference_rounds))

    @property
    def of_reference(self) -> "Samples":
        """Samples of the reference alone."""
        return Samples(self.unit, self.reference_rounds, self.reference_rounds, self.failure)

    def after(self, earlier: "Samples") -> "Samples":
        """These samples after the rounds of earlier ones."""
        rounds = (*earlier.rounds, *self.rounds)
        return replace(self, rounds=rounds, reference_rounds=(*earlier.reference_rounds, *self.reference_rounds))

    def _interval(self, medians: NDArray[np.float64]) -> Interval:
        rounds = np.flatnonzero(~np.isnan(medians))
        if self.failure or not len(rounds):
            raise InputError(f"nothing was measured: {self.failure or 'no round was finished'}")
        # Logarithms of nothing at all, such as no memory, are those of next to nothing.
        return ratio_interval(np.maximum(medians[rounds], np.finfo(np.float64).tiny), rounds)


def _medians(rounds: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """Median of each round; nan for one without a sample. Shape (n_rounds,)."""
    return np.array([np.median(samples) if samples else np.nan for samples in rounds], dtype=np.float64)
