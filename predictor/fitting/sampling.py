"""Selection of the next adapters to measure."""

import numpy as np
from numpy.typing import NDArray

from adaptare.core import InputError

# Prior information on every column, so that a column without rows does not cause a division by zero.
RIDGE = 1e-2


def next_rows(measured: NDArray[np.float64], pool: NDArray[np.float64], n: int) -> NDArray[np.int64]:
    """Rows of a pool at which a linear fit to the measured rows is most uncertain, in greedy order.

    Each has the largest prediction variance given the measured rows and those taken before it, which does not depend
    on measured latencies: the greedy D-optimal design.

    Args:
        measured: Features of the measured rows. Shape (n_measured, n_features).
        pool: Features of the candidates. Shape (n_pool, n_features).
        n: Number of rows.

    Returns:
        Indices into the pool, the most informative first. Shape (n,).

    Raises:
        InputError: The pool has fewer rows.

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
