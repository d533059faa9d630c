"""Weights of one adapter, and the base that they belong to."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from adaptare.core.content_hash import Json
from adaptare.devices.agent.feeds import uniform
from adaptare.profiler.workloads.configuration import Configuration

Base = TypeVar("Base", covariant=True)


@dataclass(frozen=True)
class Halves:
    """Low-rank update of a linear: y = W x + scale * B A x.

    Args:
        A: Shape (rank, in).
        B: Shape (out, rank).
        scale: Factor on B A x.
    """

    A: NDArray[np.float32]
    B: NDArray[np.float32]
    scale: float = 1.0

    @classmethod
    def random(cls, path: str, rank: int, in_features: int, out_features: int) -> "Halves":
        """The random weights of `random_adapter`, which every runtime generates alike."""
        down, up = random_adapter(path, rank, in_features, out_features)
        return cls(down.array().T, up.array().T)

    @classmethod
    def zero(cls, in_features: int, out_features: int) -> "Halves":
        """Rank 0."""
        return cls(np.zeros((0, in_features), np.float32), np.zeros((out_features, 0), np.float32))

    @property
    def rank(self) -> int:
        """Rows of A."""
        return len(self.A)

    @property
    def of_rows(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """A, shape (in, rank), and B, shape (rank, out), scale included, for row vectors: y = x W + x A B."""
        scaled = self.B if self.scale == 1.0 else np.float32(self.scale) * self.B
        return np.ascontiguousarray(self.A.T), np.ascontiguousarray(scaled.T)


@dataclass(frozen=True)
class SubAdapter(Generic[Base]):
    """Adapter of one configuration: what programs are built from, and what is exported and checked.

    Args:
        configuration: Ranks, and the widths and layers of the base.
        halves: Module path -> update, cut to the rank and to the widths; empty for the base alone.
        base: The base that the adapter belongs to, in the form that its user needs: a model of torch, or an ONNX graph.
    """

    configuration: Configuration
    halves: Mapping[str, Halves]
    base: Base

    @property
    def without_adapter(self) -> "SubAdapter[Base]":
        """The base alone, at the same widths and depth."""
        return SubAdapter(self.configuration.without_adapter, {}, self.base)


@dataclass(frozen=True)
class RandomMatrix:
    """Uniformly distributed weights below a limit, from a seed of 32 bits: the same on every device; see `uniform`."""

    shape: tuple[int, int]
    limit: float
    seed: int

    def array(self) -> NDArray[np.float32]:
        """The weights, in fp32."""
        return uniform(self.seed, self.shape, self.limit)

    def spec(self, dtype: str = "float32", *, padded_to: tuple[int, int] | None = None) -> dict[str, Json]:
        """Specification for a worker, as `filled` takes it, zero-padded to a larger shape if one is given."""
        values: dict[str, Json] = {"uniform": self.limit, "seed": self.seed} if min(self.shape) else {"constant": 0}
        padded = {"padded_to": list(padded_to)} if padded_to and padded_to != self.shape else {}
        return {"dtype": dtype, "shape": list(self.shape), **values, **padded}


def random_adapter(path: str, rank: int, in_features: int, out_features: int) -> tuple[RandomMatrix, RandomMatrix]:
    """A, shape (in, rank), and B, shape (rank, out), of y = x W + x A B: row vectors, as ONNX multiplies.

    They depend on site and rank only, and are large enough to change the logits: standard deviations of 1 / sqrt(in)
    and 0.02.
    """
    down, up = (zlib.crc32(f"{path} {half} {rank}".encode()) for half in "AB")
    return (
        RandomMatrix((in_features, rank), (3 / in_features) ** 0.5, down),
        RandomMatrix((rank, out_features), 0.02 * 3**0.5, up),
    )
