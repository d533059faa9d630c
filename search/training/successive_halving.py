"""Race of configurations on paired examples by successive halving, and the choice between an incumbent and others."""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from adaptare.profiler.analysis import LEVEL
from adaptare.search.training.quality import CompletionLoss, paired_difference


def race(
    loss: CompletionLoss, codes: NDArray[np.int64], *, done: Callable[[float], None] = lambda share: None
) -> list[int]:
    """Configurations left after all rounds: in each but the last, the better half goes on to a larger sample.

    Args:
        loss: Loss on examples that guided nothing before.
        codes: Configurations, shape (n, n_columns). The first is the incumbent, which is never dropped.
        done: Receives the share that is done, after each configuration; the rounds take about as long as each other.

    Returns:
        Rows, the lowest loss on all examples first.

    References:
        Jamieson and Talwalkar 2016, "Non-stochastic best arm identification and hyperparameter optimization"
        (successive halving).
    """
    left, samples = list(range(len(codes))), loss.samples()

    def reached(number: int, share: float) -> None:
        done((number - 1 + share) / len(samples))

    for number, examples in enumerate(samples, start=1):
        sums = loss.each(codes[left], examples, done=partial(reached, number))
        totals = dict(zip(left, sums.sum(axis=1), strict=True))
        left.sort(key=totals.__getitem__)
        if number < len(samples):
            n_kept = max(2, (len(left) + 1) // 2)
            left = [row for place, row in enumerate(left) if place < n_kept or row == 0]
    return left


def decide(loss: CompletionLoss, incumbent: NDArray[np.int64], others: NDArray[np.int64]) -> int | None:
    """The configuration that replaces an incumbent, if any does.

    It has the lowest loss among those whose loss is lower by their paired interval. The intervals hold for all of the
    differences together with a probability of 95 % (Bonferroni).

    Args:
        loss: Loss on examples.
        incumbent: Shape (n_columns,).
        others: Shape (n, n_columns).

    Returns:
        Row of `others`, or `None` if the incumbent stays.
    """
    level = 1 - (1 - LEVEL) / max(1, len(others))
    present, *sums = loss.each(np.vstack([incumbent, others]))
    differences = [paired_difference(own, present, loss.tokens, level=level) for own in sums]
    better = [row for row, difference in enumerate(differences) if difference.upper < 0]
    return min(better, key=lambda row: differences[row].middle) if better else None
