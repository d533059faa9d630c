"""Race of configurations on paired examples by successive halving, and the choice between an incumbent and others."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from adaptare.search.training.quality import CompletionLoss, paired_difference, paired_error


@dataclass(frozen=True)
class Race:
    """Result of a race.

    Args:
        left: Rows that are left after all rounds, the lowest loss on all examples first.
        evaluations: Losses that were computed, as a number of evaluations on all examples.
    """

    left: list[int]
    evaluations: float


def race(loss: CompletionLoss, codes: NDArray[np.int64], *, done: Callable[[float], None] = lambda share: None) -> Race:
    """Configurations left after all rounds: in each but the last, the better half goes on to a larger sample.

    Args:
        loss: Loss on examples that guided nothing before.
        codes: Configurations, shape (n, n_columns). The first is the incumbent, which is never dropped.
        done: Receives the share that is done, after each configuration; the rounds take about as long as each other.

    References:
        Jamieson and Talwalkar 2016, "Non-stochastic best arm identification and hyperparameter optimization"
        (successive halving).
    """
    left, samples = list(range(len(codes))), loss.samples()
    computed = before = 0

    def reached(number: int, share: float) -> None:
        done((number - 1 + share) / len(samples))

    for number, examples in enumerate(samples, start=1):
        sums = loss.each(codes[left], examples, done=partial(reached, number))
        totals = dict(zip(left, sums.sum(axis=1), strict=True))
        computed, before = computed + len(left) * (len(examples) - before), len(examples)
        left.sort(key=totals.__getitem__)
        if number < len(samples):
            n_kept = max(2, (len(left) + 1) // 2)
            left = [row for place, row in enumerate(left) if place < n_kept or row == 0]
    return Race(left, computed / before)


def decide(loss: CompletionLoss, incumbent: NDArray[np.int64], others: NDArray[np.int64]) -> int | None:
    """The configuration that replaces an incumbent: the rival with the lowest expected loss, if it is lower.

    Rivals are those that are not worse by their paired interval. The lowest of several losses is too low by luck. So
    losses of rivals are shrunk towards their mean, by the share of their variance that the errors of paired differences
    explain. The incumbent was not selected by its loss, which stays as it is.

    Args:
        loss: Loss on examples.
        incumbent: Shape (n_columns,).
        others: Shape (n, n_columns).

    Returns:
        Row of `others`, or `None` if the incumbent stays, as it does where there is a single example.

    References:
        Efron and Morris 1975, "Data analysis using Stein's estimator and its generalizations".
    """
    tokens, sums = loss.tokens, loss.each(np.vstack([incumbent, others]))
    present, found = sums[0], sums[1:]
    rivals = [row for row, own in enumerate(found) if paired_difference(own, present, tokens).lower <= 0]
    if not rivals or len(tokens) < 2:
        return None
    losses = found[rivals].sum(axis=1) / tokens.sum()
    variances = np.array([paired_error(own, found[rivals].mean(axis=0), tokens) for own in found[rivals]]) ** 2
    deviations = losses - losses.mean()
    true = max(0.0, float(deviations @ deviations) / max(1, len(rivals) - 1) - float(variances.mean()))
    expected = losses.mean() + deviations * true / np.maximum(true + variances, np.finfo(np.float64).tiny)
    best = int(np.lexsort((losses, expected))[0])
    return rivals[best] if expected[best] < present.sum() / tokens.sum() else None
