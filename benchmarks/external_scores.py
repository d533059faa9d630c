"""How predictions are judged, and on which rows; see prediction_external.py."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
DRAWS = 24


def mape(predicted: Array, measured: Array) -> float:
    """Mean absolute error, per cent of what was measured."""
    return float(100 * np.mean(np.abs(predicted / measured - 1)))


def draws(
    rows: int, train: int, *, test: int, pool: Indices | None = None, seeds: int = DRAWS
) -> Iterator[tuple[Indices, Indices]]:
    """Rows to learn from and others to be judged by, for each seed."""
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(np.arange(rows) if pool is None else pool)
        yield order[:train], order[train : train + test]


def outcome(name: str, ours: float, baselines: Mapping[str, float], goal: float, **more: Any) -> dict[str, Any]:
    """A row of the result."""
    best_name = min(baselines, key=baselines.__getitem__)
    best = baselines[best_name]
    row = {"id": name, "ours": ours, "best": best, "best_name": best_name, "goal": goal * best, **more}
    return {**row, "meets": bool(ours <= goal * best)}


def boosted(seed: int = 0) -> HistGradientBoostingRegressor:
    """Boosting of a log-residual, set for few rows."""
    return HistGradientBoostingRegressor(
        max_iter=200, learning_rate=0.08, min_samples_leaf=5, max_depth=4, random_state=seed
    )
