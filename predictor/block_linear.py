"""A linear fit that has learned on other devices which of its columns matter."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from adaptare.devices import InputError

Array = NDArray[np.float64]
# Of the level, in variances of y, so that the mean of few rows does not fix it.
LEVEL_VARIANCE = 4.0
# Before any device is known: what a block and the noise explain, and the standard deviation of its logarithm.
USUAL_VARIANCE, USUAL_NOISE, SPREAD = 0.05, 0.02, 2.0
LEAST_LOG, MOST_LOG = -14.0, 4.0


@dataclass(frozen=True)
class BlockVariances:
    """How much of the latency on one device each block of columns explains.

    Args:
        variances: Of what the block adds, one for each block, in variances of the latency.
        noise: Of what no block explains.
    """

    variances: tuple[float, ...]
    noise: float


def stacked_blocks(parts: Sequence[Array]) -> tuple[Array, tuple[int, ...]]:
    """Blocks of columns side by side, centred, with rows of a mean square length of 1, and how many columns each has.

    Args:
        parts: Of all architectures in question, not of the measured ones only. Shape (n, k) each.
    """
    centred = [part - part.mean(axis=0) for part in parts]
    lengths = [np.sqrt((part**2).sum(axis=1).mean()) for part in centred]
    found = [part / (length if length > 0 else 1.0) for part, length in zip(centred, lengths, strict=True)]
    return np.hstack(found), tuple(part.shape[1] for part in parts)


def block_variances(X: ArrayLike, y: ArrayLike, blocks: Sequence[int]) -> BlockVariances:
    """What is most likely on a device with many measured rows; some hundred are enough.

    Args:
        X: See `stacked_blocks`. Shape (n, n_features).
        y: Seconds. Shape (n,).
        blocks: Columns of each block.

    References:
        MacKay 1992, "Bayesian interpolation"; the evidence, maximised with a weak prior.
    """
    target, kernels = _standardised(np.asarray(y, dtype=np.float64))[0], _kernels(np.asarray(X), blocks)
    usual = np.log([USUAL_VARIANCE] * len(blocks) + [USUAL_NOISE])

    def loss(logs: Array) -> tuple[float, Array]:
        scales = np.exp(logs)
        factor = cho_factor(_covariance(kernels, scales[:-1], scales[-1]), lower=True)
        weights, inverse = cho_solve(factor, target), cho_solve(factor, np.eye(len(target)))
        open_ = inverse - np.outer(weights, weights)
        slopes = np.array([*(np.sum(open_ * kernel) for kernel in kernels), np.trace(open_)]) * scales / 2
        off = (logs - usual) / SPREAD
        value = target @ weights / 2 + np.log(np.diag(factor[0])).sum() + off @ off / 2
        return float(value), slopes + off / SPREAD

    found = minimize(loss, usual, jac=True, method="L-BFGS-B", bounds=[(LEAST_LOG, MOST_LOG)] * len(usual))
    scales = np.exp(found.x)
    return BlockVariances(tuple(scales[:-1].tolist()), float(scales[-1]))


class BlockLinear(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn publishes no types
    """Ridge regression with a strength for each block of columns, averaged over what other devices have taught.

    Every device that is known says how much each block matters; none is chosen. All are tried on the new rows, and what
    they predict is averaged with the evidence for each as its weight, so that ten rows of a device without like do not
    have to choose between hundreds of columns.

    Args:
        blocks: Columns of each block, in their order. Empty: all are one block.
        devices: What is known of others; see `block_variances`. Empty: what is usual.

    Attributes:
        coef_: Shape (n_features,).
        intercept_: The prediction at X = 0.
        weights_: Of each device; they sum to 1.

    References:
        Hoeting et al. 1999, "Bayesian model averaging: a tutorial".
    """

    def __init__(self, blocks: Sequence[int] = (), devices: Sequence[BlockVariances] = ()) -> None:
        self.blocks = blocks
        self.devices = devices

    def fit(self, X: ArrayLike, y: ArrayLike) -> "BlockLinear":
        """X of shape (n_samples, n_features), see `stacked_blocks`; y of shape (n_samples,).

        Raises:
            InputError: Blocks are not of as many columns as X, or devices know another number of blocks.
        """
        checked: tuple[Array, Array]
        checked = validate_data(self, X, y, y_numeric=True, dtype=np.float64)
        columns, (target, level, unit) = checked[0], _standardised(checked[1])
        blocks, devices = self._known(columns.shape[1])
        kernels, fits, evidence = _kernels(columns, blocks), [], []
        for device in devices:
            factor = cho_factor(_covariance(kernels, device.variances, device.noise), lower=True)
            weights = cho_solve(factor, target)
            fits.append((np.repeat(device.variances, blocks) * (weights @ columns), LEVEL_VARIANCE * weights.sum()))
            evidence.append(-target @ weights / 2 - np.log(np.diag(factor[0])).sum())
        likelihoods = np.exp(np.array(evidence) - max(evidence))
        self.weights_: Array = likelihoods / likelihoods.sum()
        self.coef_: Array = unit * (self.weights_ @ np.array([prices for prices, _ in fits]))
        self.intercept_ = float(level + unit * (self.weights_ @ np.array([shift for _, shift in fits])))
        return self

    def predict(self, X: ArrayLike) -> Array:
        """Shape (n, n_features) -> (n,)."""
        check_is_fitted(self)
        checked: Array = validate_data(self, X, reset=False, dtype=np.float64)
        return checked @ self.coef_ + self.intercept_

    def rows_to_measure(self, pool: Array, n: int) -> NDArray[np.int64]:
        """The rows that leave least unknown about all of a pool, one after the other; no latency is needed for it.

        Args:
            pool: See `stacked_blocks`. Shape (n_pool, n_features).
            n: How many.

        Returns:
            Indices into the pool, the most telling first. Shape (n,).

        Raises:
            InputError: The pool has fewer rows, or see `fit`.

        References:
            Cohn 1996, "Neural network exploration using optimal experiment design"; the expected variance.
        """
        if n > len(pool):
            raise InputError(f"the pool has only {len(pool)} rows, fewer than {n}")
        blocks, devices = self._known(pool.shape[1])
        logs = np.log([(*device.variances, device.noise) for device in devices]).mean(axis=0)
        *variances, noise = np.exp(logs)
        unknown = _covariance(_kernels(pool, blocks), variances, 0.0)
        taken: list[int] = []
        for _ in range(n):
            gains = (unknown**2).sum(axis=0) / (np.diag(unknown) + noise)
            gains[taken] = -np.inf
            best = int(np.argmax(gains))
            taken.append(best)
            unknown = unknown - np.outer(unknown[:, best], unknown[best]) / (unknown[best, best] + noise)
        return np.array(taken, dtype=np.int64)

    def _known(self, n_features: int) -> tuple[tuple[int, ...], Sequence[BlockVariances]]:
        blocks = tuple(self.blocks) or (n_features,)
        if sum(blocks) != n_features:
            raise InputError(f"blocks of {blocks} columns are {sum(blocks)} in all, but X has {n_features}")
        devices = self.devices or [BlockVariances((USUAL_VARIANCE,) * len(blocks), USUAL_NOISE)]
        if other := next((each for each in devices if len(each.variances) != len(blocks)), None):
            raise InputError(f"a device knows {len(other.variances)} blocks, but there are {len(blocks)}")
        return blocks, devices


def _standardised(y: Array) -> tuple[Array, float, float]:
    level, deviation = float(y.mean()), float(y.std())
    unit = deviation if deviation > 0 else 1.0
    return (y - level) / unit, level, unit


def _kernels(X: Array, blocks: Sequence[int]) -> list[Array]:
    ends = np.cumsum(blocks)
    return [part @ part.T for part in np.split(X, ends[:-1], axis=1)]


def _covariance(kernels: Sequence[Array], variances: Sequence[float] | Any, noise: float) -> Array:
    """Of the rows, in variances of y."""
    explained = sum(variance * kernel for variance, kernel in zip(variances, kernels, strict=True))
    found: Array = explained + LEVEL_VARIANCE + noise * np.eye(len(kernels[0]))
    return found
