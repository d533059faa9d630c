"""The rows of prediction_external.py about products of the shapes of LoRA on five GPUs."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import external_data as data
import numpy as np
from external_corrected import Corrected, Smooth
from external_roofline import Roofline
from external_scores import Array, boosted, draws, mape, outcome
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingRegressor,
    HistGradientBoostingRegressor,
    VotingRegressor,
)

from adaptare.predictor.estimators.nonnegative import NonNegativeLinear

TESTED = 4000
# So many rows of the left side are padded alike: tensor cores take 8 or 16 at a time.
PADDED_ALIKE = (9, 16)
# Twice as many rows, and four times; the Gaussian process takes minutes from there on.
MORE_ROWS, MORE_DRAWS = (2, 4), 2


def learned() -> VotingRegressor:
    """A fitted roofline, and for what it leaves a smooth function and two kinds of trees, averaged."""
    trees = GradientBoostingRegressor(
        n_estimators=300, learning_rate=0.05, max_depth=4, subsample=0.7, loss="huber", random_state=0
    )
    forest = _forest(300)
    parts = {"smooth": Corrected(Roofline(), Smooth(), (0, 1), (2, 3, 4))}
    parts |= {name: Corrected(Roofline(), each, (0, 1)) for name, each in (("trees", trees), ("forest", forest))}
    return VotingRegressor(list(parts.items()))


class DataSheet(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """The longer of what memory and arithmetic take by the data sheet, times one fitted factor."""

    def fit(self, X: Array, y: Array) -> "DataSheet":
        """Median of the ratios."""
        self.factor_ = float(np.median(y / X[:, :2].max(axis=1)))
        return self

    def predict(self, X: Array) -> Array:
        """Of the first two columns."""
        found: Array = self.factor_ * X[:, :2].max(axis=1)
        return found


def gemms_few(folder: Path, train: int) -> Iterator[dict[str, Any]]:
    """Per device, from so many of its rows; and the same with more, to see what the goal would take.

    Bounds are what regressors are off that know every other row of the device, what ours is off when it knows, as
    well as its rows, all those of the other devices, and what measuring is off from itself.
    """
    ways = {
        "ours": learned(),
        "boosted residual on the data sheet's roofline": Corrected(DataSheet(), boosted(), (0, 1)),
        "boosted residual on a fitted roofline": Corrected(Roofline(), boosted(), (0, 1)),
    }
    off: dict[str, list[float]] = {name: [] for name in ways}
    beside: list[float] = []
    more: dict[int, list[float]] = {factor * train: [] for factor in MORE_ROWS}
    tables = _tables(folder)
    for target, table in tables.items():
        latency = _latency(table)
        mixture = _mixture(folder, target)
        X = np.hstack([mixture, table.X, np.log(mixture)])
        mixed = Corrected(NonNegativeLinear(), _forest(300), tuple(range(mixture.shape[1])))
        for number, (seen, unseen) in enumerate(draws(len(latency), train, test=TESTED)):
            for name, regressor in ways.items():
                off[name].append(_off(regressor, table.X, latency, seen, unseen))
            if number < MORE_DRAWS:
                beside.append(_off(mixed, X, latency, seen, unseen))
        for rows, found in more.items():
            for seen, unseen in draws(len(latency), rows, test=TESTED, seeds=MORE_DRAWS):
                found.append(_off(learned(), table.X, latency, seen, unseen))
    means = {name: float(np.mean(each)) for name, each in off.items()}
    bounds = every_row_known(folder)
    yield outcome(
        f"lora-gemm-{train}",
        means.pop("ours"),
        means,
        0.75,
        every_row_known=float(np.mean(list(bounds.values()))),
        other_devices_known=float(np.mean(beside)),
        from_more_rows={rows: float(np.mean(found)) for rows, found in more.items()},
        every_row_known_each=bounds,
        noise=float(np.mean(list(noise(folder).values()))),
        noise_each=noise(folder),
    )


def gemms_unseen(folder: Path, train: int = 20) -> Iterator[dict[str, Any]]:
    """A device of which 20 rows are known, and all of the others."""
    scaled = "boosted residual of the others, one fitted scale"
    off: dict[str, list[float]] = {"ours": [], scaled: []}
    tables = _tables(folder)
    for target, table in tables.items():
        mixture, latency = _mixture(folder, target), _latency(table)
        others = [other for name, other in tables.items() if name != target]
        X = np.concatenate([other.X for other in others])
        sheet = np.concatenate([np.log(_latency(other) / other.X[:, :2].max(axis=1)) for other in others])
        plain = np.exp(boosted().set_params(max_depth=None, max_iter=300).fit(X, sheet).predict(table.X))
        plain *= table.X[:, :2].max(axis=1)
        for seen, unseen in draws(len(latency), train, test=TESTED):
            off["ours"].append(_off(NonNegativeLinear(), mixture, latency, seen, unseen))
            scale = float(np.median(latency[seen] / plain[seen]))
            off[scaled].append(mape(scale * plain[unseen], latency[unseen]))
    means = {name: float(np.mean(each)) for name, each in off.items()}
    yield outcome("lora-gemm-unseen", means.pop("ours"), means, 0.75)


@cache
def _mixture(folder: Path, target: str) -> Array:
    """What a new device's time is a sum of, with weights of at least 0.

    What memory and arithmetic take by its data sheet, these times what the others are off from a roofline at this
    shape, that alone, and what a fit of each of the others says at these times. The others have measured the same
    shapes.
    """
    table, fits = _tables(folder)[target], _fits(folder)
    others = [fit for name, fit in fits.items() if name != target]
    shapes = np.stack([forest.predict(table.X) for _, forest in others], axis=1)
    times = [np.exp(shape) * roofline.predict(table.X) for (roofline, _), shape in zip(others, shapes.T, strict=True)]
    mean = np.exp(shapes.mean(axis=1, keepdims=True))
    return np.column_stack([table.X[:, :2], mean, mean * table.X[:, :2], *times])


@cache
def _fits(folder: Path) -> Mapping[str, tuple[Roofline, ExtraTreesRegressor]]:
    """A roofline of each device, and trees for what it leaves."""
    found = {}
    for name, table in _tables(folder).items():
        latency = _latency(table)
        roofline = Roofline().fit(table.X, latency)
        trees = _forest(150, min_samples_leaf=2).fit(table.X, np.log(latency / roofline.predict(table.X)))
        found[name] = (roofline, trees)
    return found


@cache
def every_row_known(folder: Path) -> Mapping[str, float]:
    """What the better of two regressors is off on 1,000 rows of each device when it has seen all its other rows."""
    found = {}
    for name, table in _tables(folder).items():
        latency = _latency(table)
        order = np.random.default_rng(0).permutation(len(latency))
        unseen, seen = order[:1000], order[1000:]
        trees = _forest(200)
        many = HistGradientBoostingRegressor(max_iter=600, learning_rate=0.05, random_state=0)
        fits = [Corrected(Roofline(), each, (0, 1)).fit(table.X[seen], latency[seen]) for each in (trees, many)]
        found[name] = min(mape(each.predict(table.X[unseen]), latency[unseen]) for each in fits)
    return found


@cache
def noise(folder: Path) -> Mapping[str, float]:
    """What a row of each device is off from the median of others that the hardware takes as the same work.

    The tables have no repetitions; but rows of the left side are padded, and those that are padded to the same size
    differ in what they read by a part of the smaller operands only.
    """
    found = {}
    for name, table in _tables(folder).items():
        latency, sizes = _latency(table), np.rint(np.exp(table.X[:, 2:5]))
        alike = (sizes[:, 0] >= PADDED_ALIKE[0]) & (sizes[:, 0] <= PADDED_ALIKE[1])
        off = []
        for shape in np.unique(sizes[alike, 1:], axis=0):
            own = latency[alike & (sizes[:, 1:] == shape).all(axis=1)]
            others = np.array([np.median(np.delete(own, each)) for each in range(len(own))])
            off.append(mape(others, own))
        found[name] = float(np.mean(off))
    return found


@cache
def _tables(folder: Path) -> Mapping[str, data.Table]:
    return {table.name: table for table in data.gemms(folder)}


def _latency(table: data.Table) -> Array:
    (latency,) = table.latencies.values()
    return latency


def _forest(trees: int, **settings: Any) -> ExtraTreesRegressor:
    return ExtraTreesRegressor(trees, max_features=0.5, random_state=0, **settings)


def _off(regressor: Any, X: Array, y: Array, seen: Sequence[int], unseen: Sequence[int]) -> float:
    return mape(clone(regressor).fit(X[seen], y[seen]).predict(X[unseen]), y[unseen])
