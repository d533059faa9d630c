"""Random adapter weights, identical in every runtime, so that outputs can be compared."""

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adaptare.devices.agent.feeds import uniform


@dataclass(frozen=True)
class RandomMatrix:
    """Uniformly distributed weights below a limit, from a seed of 32 bits: the same on every device; see `uniform`."""

    shape: tuple[int, int]
    limit: float
    seed: int

    def array(self) -> NDArray[np.float32]:
        """The weights, in fp32."""
        return uniform(self.seed, self.shape, self.limit)


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
