"""Input generation that is bit-identical in every language.

Value i of a feed comes from one 32-bit word, all arithmetic modulo 2**32:

    x = seed + i * 0x9E3779B9
    x = (x ^ x >> 16) * 0x7FEB352D
    x = (x ^ x >> 15) * 0x846CA68B
    x = x ^ x >> 16

`integers: n` takes x modulo n; `uniform: limit` takes float32(x >> 8) - 8388608, which is exact, times the float32
nearest to limit / 8388608, so that values lie in [-limit, limit). C needs uint32_t, JavaScript Math.imul and
Math.fround.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

FILLS = ("constant", "integers", "uniform")
HALF = 2**23


def filled(name: str, spec: Mapping[str, Any]) -> np.ndarray:
    """The array specified by `spec`.

    Args:
        name: Name of the input, for messages.
        spec: `dtype`, `shape`, one fill (`constant`, or `integers` or `uniform` with a `seed`), and `padded_to` for
            zero padding at the end of every axis.

    Raises:
        ValueError: The spec is invalid.
    """
    kinds = sorted(set(spec) - {"dtype", "shape", "seed", "padded_to"})
    if len(kinds) != 1 or kinds[0] not in FILLS:
        raise ValueError(f"input {name!r} must be filled by exactly one of {', '.join(FILLS)}, not by {kinds}")
    needed = {"dtype", "shape"} if kinds == ["constant"] else {"dtype", "shape", "seed"}
    lacking = sorted(needed - set(spec))
    if lacking:
        raise ValueError(f"input {name!r}: its spec lacks {', '.join(lacking)}")
    values = _values(kinds[0], spec)
    if "padded_to" not in spec:
        return values
    whole = spec["padded_to"]
    if len(whole) != values.ndim or any(size > limit for size, limit in zip(values.shape, whole)):
        raise ValueError(f"input {name!r} of shape {spec['shape']} cannot be padded to {whole}")
    padded = np.zeros(whole, dtype=values.dtype)
    padded[tuple(slice(size) for size in values.shape)] = values
    return padded


def _values(kind: str, spec: Mapping[str, Any]) -> np.ndarray:
    shape, dtype = spec["shape"], spec["dtype"]
    if kind == "constant":
        return np.full(shape, spec["constant"], dtype=dtype)
    if kind == "integers":
        return (words(spec["seed"], shape) % np.uint32(spec["integers"])).astype(dtype).reshape(shape)
    return uniform(spec["seed"], shape, spec["uniform"]).astype(dtype, copy=False)


def uniform(seed: int, shape: Sequence[int], limit: float) -> np.ndarray:
    """Values in [-limit, limit), float32, in row-major order."""
    values = (words(seed, shape) >> np.uint32(8)).astype(np.float32) - np.float32(HALF)
    values *= np.float32(limit / HALF)
    return values.reshape(shape)


def words(seed: int, shape: Sequence[int]) -> np.ndarray:
    """Uniformly distributed 32-bit words, flat: numpy would turn a 0-d array into a scalar."""
    count = int(np.prod(shape, dtype=np.int64))
    x = np.arange(count, dtype=np.uint32) * np.uint32(0x9E3779B9) + np.uint32(seed % 2**32)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = (x ^ (x >> np.uint32(shift))) * np.uint32(factor)
    return x ^ (x >> np.uint32(16))
