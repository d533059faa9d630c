"""Adaptive measurement until a predictor is accurate enough, the most informative adapters first."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.predictor.features import FeatureSet
from adaptare.predictor.latency_predictor import LatencyPredictor
from adaptare.profiler import Measurement, Workload

BATCH = 8
# Prior information on every column, so that a column without rows does not cause a division by zero.
RIDGE = 1e-2


def measure_until(
    workloads: Sequence[Workload],
    known: Sequence[Measurement],
    measure: Callable[[Sequence[Workload]], Sequence[Measurement]],
    *,
    error: float,
    note: Callable[[str], None],
) -> tuple[list[Measurement], float | None]:
    """Measures workloads until the cross-validated error of a predictor is small enough.

    The criterion is the upper confidence bound of the error: the error itself, checked after every batch, sooner or
    later falls below the target by chance. Returns the new measurements and that bound; `None` where the rows are too
    few for a predictor.

    Args:
        workloads: Unmeasured candidates; the first ones are taken first.
        measure: Measures and stores some; fewer than requested when its time is up.
        error: Target mean absolute error on held-out adapters, per cent of latency.
    """
    rows, left, taken = list(known), list(workloads), list[Measurement]()
    upper, time_is_up = None, False
    least = LatencyPredictor().fewest_adapters + 1
    while True:
        usable = [row for row in rows if row.complete and row.visits]
        if len({row.workload for row in usable}) >= least:
            card = LatencyPredictor().fit(usable).error_card
            upper = card.mape_upper
            note(
                f"{len(usable)} rows: error on held-out adapters {card.mape:.2f} %, 95 % upper bound {upper:.2f} %; "
                f"{error:g} % is wanted"
            )
            if upper is not None and upper <= error:
                return taken, upper
        if time_is_up:
            note(f"the time is up, and {error:g} % is not reached; run the same command again to resume")
            return taken, upper
        if not left:
            note(
                f"every configuration is measured, and {error:g} % is not reached; give a larger count, or a larger "
                "space"
            )
            return taken, upper
        batch = _next(usable, left, max(BATCH, least - len(usable)))
        measured = measure(batch)
        taken.extend(measured)
        rows.extend(measured)
        now = set(batch)
        left = [workload for workload in left if workload not in now]
        time_is_up = len(measured) < len(batch)


def _next(known: Sequence[Measurement], left: Sequence[Workload], n: int) -> list[Workload]:
    if not known or n >= len(left):
        return list(left[:n])
    configurations = [[workload.configuration for workload in some] for some in ([row.workload for row in known], left)]
    options = known[0].device.options
    features = FeatureSet.of(left[0], [each for some in configurations for each in some], options=options)
    measured, pool = (features.matrix(features.values(some)) for some in configurations)
    return [left[index] for index in np.sort(next_rows(measured, pool, n))]


def next_rows(measured: NDArray[np.float64], pool: NDArray[np.float64], n: int) -> NDArray[np.int64]:
    """Indices of `n` rows of a pool at which a linear fit to the measured rows is most uncertain, in greedy order.

    Each has the largest prediction variance given the measured rows and those taken before it, which does not depend
    on measured latencies: the greedy D-optimal design. Raises `InputError` if the pool has fewer rows.

    Args:
        measured: Features of the measured rows. Shape (n_measured, n_features).
        pool: Features of the candidates. Shape (n_pool, n_features).

    References:
        Fedorov 1972, "Theory of optimal experiments", chapter 3.
    """
    if n > len(pool):
        raise InputError(f"the pool has only {len(pool)} rows, fewer than {n}")
    both = np.vstack([measured, pool])
    spread = both.std(axis=0)
    known, open_ = (
        np.hstack([np.ones((len(rows), 1)), (rows - both.mean(axis=0)) / np.where(spread > 0, spread, np.inf)])
        for rows in (measured, pool)
    )
    covariance = np.linalg.inv(known.T @ known + RIDGE * np.eye(known.shape[1]))
    taken: list[int] = []
    for _ in range(n):
        variances = np.einsum("ij,jk,ik->i", open_, covariance, open_)
        variances[taken] = -np.inf
        best = int(np.argmax(variances))
        taken.append(best)
        gain = covariance @ open_[best]
        covariance -= np.outer(gain, gain) / (1 + open_[best] @ gain)
    return np.array(taken, dtype=np.int64)
