"""Latency of the base over the length, and features relative to it: what lets one fit cover several lengths."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.predictor.features import FeatureSet, Values
from adaptare.profiler import Workload


@dataclass(frozen=True)
class BaseCurve:
    """Measured values of the base at one or several lengths, and values between them.

    Between two measured lengths the value is linear in the FLOPs of a call, which grow with the tokens in the linears,
    and with their square in the attention of a prefill.

    Args:
        base: Workload of the base, at any length.
        values: Measured value at each length (tokens of a prefill, cached positions of a decode step).

    Raises:
        InputError: A value is no finite number above 0.
    """

    base: Workload
    values: Mapping[int, float]

    def __post_init__(self) -> None:
        wrong = {length: value for length, value in self.values.items() if not 0 < value < math.inf}
        if wrong or not self.values:
            raise InputError(f"base_values must be finite numbers above 0, one for each length, not {wrong}")

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """Measured lengths, ascending."""
        return tuple(sorted(self.values))

    def at(self, length: int) -> float:
        """Value of the base at a length. Raises `InputError` outside the measured lengths."""
        first, last = self.lengths[0], self.lengths[-1]
        if not first <= length <= last:
            known = str(first) if first == last else f"{first} to {last}"
            raise InputError(
                f"length {length} is outside the fitted lengths, {known}; profile that length and fit again"
            )
        return _between(self.base, self.values, length)

    @cached_property
    def left_out(self) -> Mapping[int, float]:
        """Relative error at each inner length if its neighbours determine it; length -> error."""
        inner = self.lengths[1:-1]
        others = {length: {other: self.values[other] for other in self.lengths if other != length} for length in inner}
        return {length: _between(self.base, others[length], length) / self.values[length] - 1 for length in inner}


def at_length(workload: Workload, length: int) -> Workload:
    """The workload with another number of tokens in prefill, or of cached positions in decode."""
    return replace(workload, past=length) if workload.phase == "decode" else replace(workload, tokens=length)


def relative_features(
    features: FeatureSet, values: Values, lengths: NDArray[np.int64], base: BaseCurve
) -> NDArray[np.float64]:
    """Features at the length of each row, divided by the growth of the base since the length of the features.

    The ratio to the base is linear in them at all lengths, with one coefficient per feature: seconds per unit over
    seconds of the base. Shape (n, n_columns) -> (n, n_features).
    """
    unit = base.at(features.template.length)
    X = np.empty((len(values), len(features.names)))
    for length in np.unique(lengths):
        rows, template = lengths == length, at_length(features.template, int(length))
        X[rows] = replace(features, template=template).matrix(values[rows]) * (unit / base.at(int(length)))
    return X


def _between(base: Workload, values: Mapping[int, float], length: int) -> float:
    if length in values:
        return values[length]
    known = sorted(values)
    flops = [at_length(base, each).work().flops for each in (*known, length)]
    return float(np.interp(flops[-1], flops[:-1], [values[each] for each in known]))
