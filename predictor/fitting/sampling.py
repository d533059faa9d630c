"""Which adapters to measure next."""

import numpy as np
from numpy.typing import NDArray

from adaptare.devices import InputError

# What a row is taken to tell even about columns that no other row has, against a division by zero.
RIDGE = 1e-2


def next_rows(measured: NDArray[np.float64], pool: NDArray[np.float64], n: int) -> NDArray[np.int64]:
    """The rows of a pool about which a linear fit to the measured ones knows least, one after the other.

    Each is the one whose prediction has the largest variance given the measured rows and those taken before it, which
    does not depend on what is measured: the greedy D-optimal design.

    Args:
        measured: Features of what is known. Shape (n_measured, n_features).
        pool: Features of what may be measured. Shape (n_pool, n_features).
        n: How many.

    Returns:
        Indices into the pool, the most telling first. Shape (n,).

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
