"""Difference of two losses on the same examples."""

import numpy as np
from numpy.typing import NDArray
from scipy import special

from adaptare.core import InputError
from adaptare.profiler.analysis.intervals import LEVEL, Interval


def paired_difference(first: NDArray[np.float64], second: NDArray[np.float64], tokens: NDArray[np.int64]) -> Interval:
    """Loss of the first minus that of the second, with a 95 % interval over the examples.

    Examples vary much more than the difference does on one example, so the interval is that of the differences. Losses
    are sums over tokens divided by their number, hence a ratio: its standard error is that of the residuals.

    Args:
        first: Loss summed over the completion of each example, nats. Shape (n_examples,).
        second: The same of the other.
        tokens: Number of completion tokens. Shape (n_examples,).

    Returns:
        Difference in nats per completion token; of a single example with an infinite interval.

    Raises:
        InputError: The shapes differ.

    References:
        Cochran 1977, "Sampling techniques", section 6.4 (variance of a ratio).
    """
    if not len(first) == len(second) == len(tokens):
        raise InputError(
            f"losses of {len(first)} and {len(second)} examples, with {len(tokens)} lengths, do not pair; use the same "
            "examples"
        )
    n, differences = len(tokens), first - second
    middle = float(differences.sum() / tokens.sum())
    if n < 2:
        return Interval(-np.inf, middle, np.inf)
    residuals = differences - middle * tokens
    error = float(np.sqrt(n / (n - 1) * (residuals @ residuals))) / float(tokens.sum())
    half = float(special.stdtrit(n - 1, (1 + LEVEL) / 2)) * error
    return Interval(middle - half, middle, middle + half)
