"""Time of a call by operator, from the runtime's own profiler."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adaptare.profiler.store.measurement import Measurement

# Below this duration, the profiler's overhead per operator is significant.
SHORT_S = 50e-6
OPERATORS, OPERATOR_CALLS, PLAIN = "operators", "operator_calls", "plain"


@dataclass(frozen=True)
class OperatorCost:
    """All operators of one type in one call of a workload: executions, and self time without nested operators."""

    name: str
    calls: float
    seconds: float

    @property
    def short(self) -> bool:
        """True if a large part of the time may be profiler overhead."""
        return self.seconds < SHORT_S * self.calls


@dataclass(frozen=True)
class ProfiledCalls:
    """Calls of one workload, with and without the profiler.

    Args:
        plain_s: Latency of a call without the profiler, seconds.
        profiled_s: Latency of a call with the profiler, seconds; the excess over `plain_s` is profiler overhead.
        slowdown: Ratio of the latency with the profiler to that without.
        outside_s: Time of the profiled call outside its operators, including disturbances, seconds.
        profiled_calls: Number of calls with the profiler.
    """

    plain_s: float
    profiled_s: float
    slowdown: float
    outside_s: float
    profiled_calls: int


@dataclass(frozen=True)
class Attribution:
    """Time of one workload by operator, the most expensive first.

    Every value is a mean over the faster half of the calls: disturbed calls are excluded, and the operators add up to
    no more than the total.
    """

    calls: ProfiledCalls
    operators: tuple[OperatorCost, ...]

    @classmethod
    def of(cls, rounds: Mapping[str, Sequence[Sequence[float]]]) -> "Attribution":
        """Attribution from the samples of an `Operators` probe: quantity -> samples of each round."""
        lengths = [len(calls) for calls in rounds[OPERATORS]]

        def undisturbed(*names: str) -> list[float]:
            # An operator that did not run in a whole round has no samples there.
            filled = ([own or (0.0,) * n for own, n in zip(rounds[name], lengths, strict=True)] for name in names)
            return _undisturbed(np.stack([np.concatenate(calls) for calls in filled], axis=1))

        timed = [name.partition("/") for name, some in rounds.items() if any(some)]
        kinds = [operator for quantity, _, operator in timed if quantity == OPERATORS and operator]
        costs = []
        for kind in kinds:
            seconds, count = undisturbed(f"{OPERATORS}/{kind}", f"{OPERATOR_CALLS}/{kind}")
            costs.append(OperatorCost(kind, count, seconds))
        (plain_s,), (profiled_s,) = undisturbed(PLAIN), undisturbed(OPERATORS)
        outside_s = profiled_s - sum(cost.seconds for cost in costs)
        calls = ProfiledCalls(plain_s, profiled_s, profiled_s / plain_s, outside_s, sum(lengths))
        return cls(calls, tuple(sorted(costs, key=lambda cost: -cost.seconds)))


def attributions(measurement: Measurement) -> tuple[Attribution, Attribution]:
    """Attributions of the reference and of the workload. Raises `InputError` if it failed."""
    measurement.value(OPERATORS)  # raises if there is none
    samples = measurement.quantities
    reference = {name: some.reference_rounds for name, some in samples.items()}
    return Attribution.of(reference), Attribution.of({name: some.rounds for name, some in samples.items()})


def _undisturbed(figures: NDArray[np.float64]) -> list[float]:
    """Means over the half of the calls with the lowest first value. Shape (n_calls, n_values) -> (n_values,)."""
    kept = np.argsort(figures[:, 0], kind="stable")[: (len(figures) + 1) // 2]
    means: list[float] = figures[kept].mean(axis=0).tolist()
    return means
