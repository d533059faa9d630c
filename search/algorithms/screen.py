"""Surrogate screening: selects the proposals worth an expensive evaluation, from earlier evaluations."""

import numpy as np
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.search.budget.front import most_spread, non_dominated


class AdditiveScreen:
    """Additive surrogate: each site contributes separately to every objective, by the log of its rank.

    A ridge regression on the history predicts the objectives of the proposals; their best fronts are chosen, well
    spread. Losses are not exactly additive, so a quarter of every batch is left to the algorithm.

    Args:
        oversampling: Proposals per evaluation.
        least: Evaluations before screening starts; until then the first proposals are taken.

    Raises:
        InputError: An argument is out of range.
    """

    def __init__(self, *, oversampling: int = 20, least: int = 20) -> None:
        if oversampling < 1 or least < 2:
            raise InputError(f"a screen needs oversampling >= 1 and least >= 2, not {oversampling} and {least}")
        self._oversampling = oversampling
        self._least = least

    def proposals(self, n: int, evaluations: int) -> int:
        """Number of proposals for n evaluations, oversampled once there were enough evaluations."""
        return n * self._oversampling if evaluations >= self._least else n

    def choose(
        self, codes: NDArray[np.int64], known: NDArray[np.int64], values: NDArray[np.float64], n: int
    ) -> NDArray[np.int64]:
        """Rows to evaluate: a quarter in proposal order, the others by predicted front. Shape (at most n,).

        Args:
            codes: Proposals, shape (n_proposals, n_columns).
            known: Evaluated configurations, shape (n_known, n_columns).
            values: Their objectives, shape (n_known, n_objectives).
            n: Number of evaluations.
        """
        finite = np.isfinite(values).all(axis=1)
        if np.sum(finite) < self._least or len(codes) <= n:
            return np.arange(min(n, len(codes)))
        unscreened = n // 4
        predicted = _predicted(known[finite], values[finite], codes[unscreened:])
        return np.concatenate([np.arange(unscreened), unscreened + _best(predicted, n - unscreened)])


def _predicted(known: NDArray[np.int64], values: NDArray[np.float64], codes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Shapes (n_known, n_columns), (n_known, n_objectives), (n, n_columns) -> (n, n_objectives)."""
    from sklearn.linear_model import RidgeCV

    model = RidgeCV(alphas=np.logspace(-4, 2, 13)).fit(_features(known), values)
    return np.asarray(model.predict(_features(codes)), dtype=np.float64).reshape(len(codes), -1)


def _features(codes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Log ranks, with their mean and the share of adapted sites, whose effects few evaluations determine."""
    logs = np.log1p(codes)
    whole = np.column_stack([logs.mean(axis=1), (codes > 0).mean(axis=1)])
    return np.column_stack([logs, np.sqrt(codes.shape[1]) * whole])


def _best(values: NDArray[np.float64], n: int) -> NDArray[np.int64]:
    """The n rows of the first fronts, the last front thinned out. Shape (n,)."""
    chosen: list[int] = []
    left = np.arange(len(values))
    while len(chosen) < n:
        on_front = non_dominated(values[left])
        front, left = left[on_front], left[~on_front]
        room = n - len(chosen)
        if len(front) > room:
            lowest = int(np.argmin(values[front, 0]))
            front = front[most_spread(values[front], lowest, room)]
        chosen.extend(front.tolist())
    return np.array(chosen, dtype=np.int64)
