"""Random adapter weights that every runtime makes alike, so that their outputs can be compared."""

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class RandomMatrix:
    """Normally distributed weights, described so that they can be made elsewhere.

    Args:
        shape: Rows and columns.
        scale: Standard deviation.
        seed: Of `numpy.random.default_rng`.
    """

    shape: tuple[int, int]
    scale: float
    seed: int

    def array(self) -> NDArray[np.float32]:
        """The weights, in fp32."""
        drawn = np.random.default_rng(self.seed).standard_normal(self.shape, dtype=np.float32)
        return drawn * np.float32(self.scale)


def random_adapter(path: str, rank: int, in_features: int, out_features: int) -> tuple[RandomMatrix, RandomMatrix]:
    """A, shape (in, rank), and B, shape (rank, out), of y = x W + x A B: row vectors, as ONNX multiplies.

    They depend on site and rank alone, and are large enough to move the logits.
    """
    down, up = (zlib.crc32(f"{path} {half} {rank}".encode()) for half in "AB")
    return (
        RandomMatrix((in_features, rank), in_features**-0.5, down),
        RandomMatrix((rank, out_features), 0.02, up),
    )
