"""Strengths of blocks of columns, learned on known devices and averaged on a new one."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from external_block_linear import BlockLinear, BlockVariances, block_variances, stacked_blocks
from numpy.typing import NDArray
from scipy.stats import multivariate_normal
from sklearn.utils.estimator_checks import parametrize_with_checks

from adaptare.core import InputError

Array = NDArray[np.float64]


@parametrize_with_checks([BlockLinear()])
def test_what_scikit_learn_asks_of_an_estimator(estimator: Any, check: Callable[[Any], None]) -> None:
    check(estimator)


@pytest.fixture
def stacked() -> tuple[Array, tuple[int, ...]]:
    """A block of 3 columns and one of 60, of 300 architectures."""
    rng = np.random.default_rng(0)
    return stacked_blocks([rng.normal(5, 2, (300, 3)), rng.normal(-1, 30, (300, 60))])


def seconds(X: Array, prices: Sequence[float], seed: int, noise: float = 0.02) -> Array:
    """Latencies to which the first block adds; the second one does not matter."""
    rng = np.random.default_rng(seed)
    latency: Array = 3 + X[:, :3] @ np.asarray(prices)
    return latency + rng.normal(0, noise, len(X))


def evidence(X: Array, latency: Array, device: BlockVariances) -> float:
    """Log-likelihood of standardised latencies."""
    scaled = X * np.sqrt(np.repeat(device.variances, (3, 60)))
    covariance = scaled @ scaled.T + 4.0 + device.noise * np.eye(len(X))
    standardised = (latency - latency.mean()) / latency.std()
    return float(multivariate_normal.logpdf(standardised, np.zeros(len(X)), covariance))


def test_blocks_are_centred_and_of_one_size(stacked: tuple[Array, tuple[int, ...]]) -> None:
    X, blocks = stacked
    assert blocks == (3, 60)
    assert X.mean(axis=0) == pytest.approx(np.zeros(63), abs=1e-12)
    for part in np.split(X, [3], axis=1):
        assert (part**2).sum(axis=1).mean() == pytest.approx(1)
    constant, _ = stacked_blocks([np.full((900, 2), 0.1)])
    assert not constant.any()


def test_a_known_device_says_which_block_matters(stacked: tuple[Array, tuple[int, ...]]) -> None:
    X, blocks = stacked
    found = block_variances(X, seconds(X, (1, -1, 0.5), 0), blocks)
    own, other = found.variances
    assert own > 100 * other
    assert found.noise < 0.01


def test_no_other_variances_are_more_likely(stacked: tuple[Array, tuple[int, ...]]) -> None:
    X, blocks = stacked
    X, latency = X[:120], seconds(X[:120], (1, -1, 0.5), 0, noise=0.3)
    found = block_variances(X, latency, blocks)
    usual = np.log([0.05, 0.05, 0.02])

    def posterior(device: BlockVariances) -> float:
        off = (np.log([*device.variances, device.noise]) - usual) / 2
        return evidence(X, latency, device) - float(off @ off) / 2

    best = posterior(found)
    for factor in (0.5, 0.8, 1.25, 2.0):
        own, other = found.variances
        changed = [
            BlockVariances((factor * own, other), found.noise),
            BlockVariances((own, factor * other), found.noise),
            BlockVariances((own, other), factor * found.noise),
        ]
        assert max(posterior(each) for each in changed) < best


def test_known_devices_are_worth_rows(stacked: tuple[Array, tuple[int, ...]]) -> None:
    X, blocks = stacked
    known = [block_variances(X, seconds(X, prices, 1), blocks) for prices in ((1, -1, 0.5), (0.3, 0.3, -1))]
    latency = seconds(X, (-0.5, 1, 1), 2)
    off = {
        name: np.abs(regressor.fit(X[:10], latency[:10]).predict(X[10:]) - latency[10:]).mean()
        for name, regressor in (("taught", BlockLinear(blocks, known)), ("not taught", BlockLinear(blocks)))
    }
    assert off["taught"] < 0.5 * off["not taught"]
    assert off["taught"] < 0.1


def test_devices_that_say_something_else_lose_their_weight(stacked: tuple[Array, tuple[int, ...]]) -> None:
    X, blocks = stacked
    alike, unlike = BlockVariances((1.0, 1e-6), 1e-3), BlockVariances((1e-6, 1e-6), 1.0)
    latency = seconds(X[:20], (1, 1, 1), 0)
    fitted = BlockLinear(blocks, [unlike, alike]).fit(X[:20], latency)
    assert fitted.weights_.sum() == pytest.approx(1)
    assert fitted.weights_[1] > 0.99
    close = BlockVariances((0.7, 1e-3), 2e-3)
    likely = [evidence(X[:20], latency, device) for device in (close, alike)]
    weights = BlockLinear(blocks, [close, alike]).fit(X[:20], latency).weights_
    assert np.log(weights[0] / weights[1]) == pytest.approx(likely[0] - likely[1])
    assert fitted.predict(X[:5]) == pytest.approx(X[:5] @ fitted.coef_ + fitted.intercept_)


def test_a_fit_is_ridge_regression_with_a_strength_for_each_block(stacked: tuple[Array, tuple[int, ...]]) -> None:
    X, blocks = stacked
    latency = seconds(X, (1, -1, 0.5), 0)[:25]
    device = BlockVariances((0.5, 0.1), 0.05)
    fitted = BlockLinear(blocks, [device]).fit(X[:25], latency)
    level, unit = latency.mean(), latency.std()
    design = np.hstack([np.ones((25, 1)), X[:25]])
    strengths = device.noise / np.concatenate([[4.0], np.repeat(device.variances, blocks)])
    solved = np.linalg.solve(design.T @ design + np.diag(strengths), design.T @ ((latency - level) / unit))
    assert fitted.coef_ == pytest.approx(unit * solved[1:], abs=1e-8)
    assert fitted.intercept_ == pytest.approx(level + unit * solved[0], abs=1e-8)


def test_planned_rows_differ_and_tell_more_than_others(stacked: tuple[Array, tuple[int, ...]]) -> None:
    X, blocks = stacked
    device = BlockVariances((1.0, 1e-4), 1e-2)
    planned = BlockLinear(blocks, [device]).rows_to_measure(X, 6)
    assert len(set(planned.tolist())) == 6

    def unknown(rows: NDArray[np.int64]) -> float:
        """Mean variance of all predictions when these rows are known."""
        scaled = np.hstack([np.full((len(X), 1), 2.0), X * np.sqrt(np.repeat(device.variances, blocks))])
        known = scaled[rows]
        covariance = scaled @ np.linalg.inv(np.eye(scaled.shape[1]) + known.T @ known / device.noise)
        return float((covariance * scaled).sum(axis=1).mean())

    rng = np.random.default_rng(0)
    assert unknown(planned) < min(unknown(rng.choice(300, 6, replace=False)) for _ in range(20))


@pytest.mark.parametrize(
    ("regressor", "message"),
    [
        (BlockLinear((3, 50)), "53 in all, but X has 63"),
        (BlockLinear((3, 60), [BlockVariances((1.0,), 0.1)]), "tells of 1 blocks, but there are 2"),
    ],
    ids=["columns", "blocks"],
)
def test_blocks_that_do_not_fit_are_errors(
    stacked: tuple[Array, tuple[int, ...]], regressor: BlockLinear, message: str
) -> None:
    X, _ = stacked
    with pytest.raises(InputError, match=message):
        regressor.fit(X, np.ones(300))
    with pytest.raises(InputError, match=message):
        regressor.rows_to_measure(X, 2)


def test_variances_are_above_0() -> None:
    with pytest.raises(InputError, match="above 0"):
        BlockVariances((1.0, 0.0), 0.1)


def test_blocks_of_a_known_device_are_checked(stacked: tuple[Array, tuple[int, ...]]) -> None:
    with pytest.raises(InputError, match="53 in all, but X has 63"):
        block_variances(stacked[0], np.arange(300.0), (3, 50))


def test_a_pool_gives_no_more_rows_than_it_has(stacked: tuple[Array, tuple[int, ...]]) -> None:
    X, blocks = stacked
    with pytest.raises(InputError, match="only 5 rows, fewer than 6"):
        BlockLinear(blocks).rows_to_measure(X[:5], 6)
