"""Linear fit with block-wise shrinkage learned from other devices."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize
from sklearn.utils.validation import check_X_y

from adaptare.core import InputError
from adaptare.predictor.estimators.estimator import LinearEstimator

Array = NDArray[np.float64]
# Variance of the level, in variances of y, so that the mean of few rows does not fix it.
LEVEL_VARIANCE = 4.0
# Prior without known devices: variance explained by a block and by noise, and the standard deviation of its logarithm.
USUAL_VARIANCE, USUAL_NOISE, SPREAD = 0.05, 0.02, 2.0
LEAST_LOG, MOST_LOG = -14.0, 4.0
# Relative to the largest value of a block: anything smaller is a constant with rounding error.
ROUNDING = 1e-9


@dataclass(frozen=True)
class BlockVariances:
    """Variance of the latency on one device explained by each block of columns.

    Args:
        variances: Variance of each block's contribution, in variances of the latency.
        noise: Variance that no block explains.

    Raises:
        InputError: A variance is not above 0.
    """

    variances: tuple[float, ...]
    noise: float

    def __post_init__(self) -> None:
        if not all(value > 0 for value in (*self.variances, self.noise)):
            raise InputError(f"variances must be above 0, not {self.variances} and {self.noise} of noise")


def stacked_blocks(parts: Sequence[Array]) -> tuple[Array, tuple[int, ...]]:
    """Blocks of columns side by side, centred, with rows of a mean square length of 1, and how many columns each has.

    Args:
        parts: Blocks for all candidate architectures, not only the measured ones. Shape (n, k) each.
    """
    found = []
    for part in parts:
        centred = part - part.mean(axis=0)
        length = np.sqrt((centred**2).sum(axis=1).mean())
        constant = length <= ROUNDING * np.abs(part).max()
        found.append(np.zeros_like(centred) if constant else centred / length)
    return np.hstack(found), tuple(part.shape[1] for part in parts)


def block_variances(X: ArrayLike, y: ArrayLike, blocks: Sequence[int]) -> BlockVariances:
    """Most likely variances on a device with many measured rows; some hundred are enough.

    Args:
        X: See `stacked_blocks`. Shape (n, n_features).
        y: Seconds. Shape (n,).
        blocks: Columns of each block.

    Raises:
        InputError: The blocks do not add up to the columns of X.

    References:
        MacKay 1992, "Bayesian interpolation"; the evidence, maximised with a weak prior.
    """
    columns: Array
    columns, latency = check_X_y(X, y, dtype=np.float64, y_numeric=True)
    kernels = [part @ part.T for part in _parts(columns, blocks)]
    target = _standardised(latency)[0]
    usual = np.log([USUAL_VARIANCE] * len(blocks) + [USUAL_NOISE])

    def loss(logs: Array) -> tuple[float, Array]:
        scales = np.exp(logs)
        factor = cho_factor(_covariance(kernels, scales), lower=True)
        weights, inverse = cho_solve(factor, target), cho_solve(factor, np.eye(len(target)))
        open_ = inverse - np.outer(weights, weights)
        slopes = np.array([*(np.sum(open_ * kernel) for kernel in kernels), np.trace(open_)]) * scales / 2
        off = (logs - usual) / SPREAD
        value = target @ weights / 2 + np.log(np.diag(factor[0])).sum() + off @ off / 2
        return float(value), slopes + off / SPREAD

    found = minimize(loss, usual, jac=True, method="L-BFGS-B", bounds=[(LEAST_LOG, MOST_LOG)] * len(usual))
    scales = np.exp(found.x)
    return BlockVariances(tuple(scales[:-1].tolist()), float(scales[-1]))


class BlockLinear(LinearEstimator):
    """Ridge regression with one strength per block of columns, averaged over the strengths of known devices.

    Every known device supplies block variances; none is selected. All are tried on the new rows, and their predictions
    are averaged with their evidence as weights, so that ten rows of an unfamiliar device do not have to choose between
    hundreds of columns.

    Args:
        blocks: Columns of each block, in their order. Empty: a single block.
        known: Variances of known devices; see `block_variances`. Empty: a generic prior.

    Attributes:
        coef_: Shape (n_features,).
        intercept_: The prediction at X = 0.
        weights_: Weight of each known device; they sum to 1.

    References:
        Hoeting et al. 1999, "Bayesian model averaging: a tutorial".
    """

    def __init__(self, blocks: Sequence[int] = (), known: Sequence[BlockVariances] = ()) -> None:
        self.blocks = blocks
        self.known = known

    def _learn(self, X: Array, y: Array) -> None:
        """X as of `stacked_blocks`. Raises `InputError` if the blocks or the known devices do not fit its columns."""
        target, level, unit = _standardised(y)
        blocks, known = self._checked(X.shape[1])
        kernels = [part @ part.T for part in _parts(X, blocks)]
        prices, shifts, evidence = [], [], []
        for each in known:
            factor = cho_factor(_covariance(kernels, (*each.variances, each.noise)), lower=True)
            dual = cho_solve(factor, target)
            prices.append(np.repeat(each.variances, blocks) * (dual @ X))
            shifts.append(LEVEL_VARIANCE * dual.sum())
            evidence.append(-target @ dual / 2 - np.log(np.diag(factor[0])).sum())
        likelihoods = np.exp(np.array(evidence) - max(evidence))
        self.weights_: Array = likelihoods / likelihoods.sum()
        self.coef_ = unit * (self.weights_ @ np.array(prices))
        self.intercept_ = float(level + unit * (self.weights_ @ np.array(shifts)))

    def rows_to_measure(self, pool: Array, n: int) -> NDArray[np.int64]:
        """Rows whose measurement reduces the variance over the whole pool most, in greedy order; needs no latencies.

        Args:
            pool: See `stacked_blocks`; needs memory for n_pool x n_pool numbers. Shape (n_pool, n_features).
            n: Number of rows.

        Returns:
            Indices into the pool, the most informative first. Shape (n,).

        Raises:
            InputError: The pool has fewer rows; also as in `fit`.

        References:
            Cohn 1996, "Neural network exploration using optimal experiment design"; the expected variance.
        """
        if n > len(pool):
            raise InputError(f"the pool has only {len(pool)} rows, fewer than {n}")
        blocks, known = self._checked(pool.shape[1])
        *variances, noise = np.exp(np.log([(*each.variances, each.noise) for each in known]).mean(axis=0))
        scaled = pool * np.sqrt(np.repeat(variances, blocks))
        unknown = scaled @ scaled.T + LEVEL_VARIANCE
        taken: list[int] = []
        for _ in range(n):
            gains = (unknown**2).sum(axis=0) / (np.diag(unknown) + noise)
            gains[taken] = -np.inf
            best = int(np.argmax(gains))
            taken.append(best)
            unknown -= np.outer(unknown[:, best], unknown[best]) / (unknown[best, best] + noise)
        return np.array(taken, dtype=np.int64)

    def _checked(self, n_features: int) -> tuple[tuple[int, ...], Sequence[BlockVariances]]:
        blocks = tuple(self.blocks) or (n_features,)
        _parts(np.empty((0, n_features)), blocks)
        known = self.known or [BlockVariances((USUAL_VARIANCE,) * len(blocks), USUAL_NOISE)]
        if other := next((each for each in known if len(each.variances) != len(blocks)), None):
            raise InputError(f"a known device tells of {len(other.variances)} blocks, but there are {len(blocks)}")
        return blocks, known


def _standardised(y: Array) -> tuple[Array, float, float]:
    level, deviation = float(y.mean()), float(y.std())
    unit = deviation if deviation > 0 else 1.0
    return (y - level) / unit, level, unit


def _parts(X: Array, blocks: Sequence[int]) -> list[Array]:
    if sum(blocks) != X.shape[1]:
        raise InputError(f"blocks of {tuple(blocks)} columns are {sum(blocks)} in all, but X has {X.shape[1]}")
    return np.split(X, np.cumsum(blocks)[:-1], axis=1)


def _covariance(kernels: Sequence[Array], scales: Sequence[float] | Array) -> Array:
    """Covariance of the rows, in variances of y; the last scale is that of the noise."""
    *variances, noise = scales
    found = LEVEL_VARIANCE + noise * np.eye(len(kernels[0]))
    for variance, kernel in zip(variances, kernels, strict=True):
        found += variance * kernel
    return found
