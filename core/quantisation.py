"""Number formats of the weights of a quantised base."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from adaptare.core.errors import InputError

# Name in `QUANTISATIONS`.
Quantisation = str
BLOCK: Final = 32


@dataclass(frozen=True)
class WeightFormat:
    """Integers with one 32-bit scale for each block of weights of an output.

    Args:
        bits: Bits of one integer; 0 if weights stay in the data type of the workload.
        block: Weights that share a scale.
        rounds_activations: True if ONNX Runtime may round activations to 8 bits, per block, for the fastest kernel.
    """

    bits: int
    block: int = BLOCK
    rounds_activations: bool = True

    def bytes_per_weight(self, float_bytes: int) -> float:
        """Bytes of a weight with its share of the scale, where a floating-point weight has `float_bytes`."""
        return self.bits / 8 + 4 / self.block if self.bits else float_bytes

    def rounds_embedding(self, width: int) -> bool:
        """True if an embedding of this width that is tied to the head has its weights: in 4 bits, of whole blocks."""
        return self.bits == 4 and width % self.block == 0


# In workloads, exports, training and the command line; `none` is the default.
QUANTISATIONS: Final[Mapping[str, WeightFormat]] = {
    "none": WeightFormat(0, rounds_activations=False),
    "int8": WeightFormat(8),
    "int4": WeightFormat(4),
    "int4-weight-only": WeightFormat(4, rounds_activations=False),
}


def check_quantisation(name: str) -> None:
    """Raises `InputError` for another name."""
    if name not in QUANTISATIONS:
        raise InputError(f"quantisation must be one of {', '.join(QUANTISATIONS)}, not {name!r}")
