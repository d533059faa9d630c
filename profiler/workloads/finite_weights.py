"""Search for NaN and infinity in a weights file, in any of the common floating-point formats."""

import json
from pathlib import Path

import numpy as np

# Format -> unsigned integer of the same width, and the bits that are all set in NaN and infinity alone: the exponent,
# and in F8_E4M3, which has no infinity, the mantissa too.
FORMATS = {
    "F64": (np.uint64, 0x7FF0_0000_0000_0000),
    "F32": (np.uint32, 0x7F80_0000),
    "BF16": (np.uint16, 0x7F80),
    "F16": (np.uint16, 0x7C00),
    "F8_E5M2": (np.uint8, 0x7C),
    "F8_E4M3": (np.uint8, 0x7F),
}
PREFIX_BYTES = 8


def not_finite(file: str | Path) -> str | None:
    """Name of the first tensor with a value that is NaN or infinite; `None` if there is none.

    Args:
        file: A safetensors file that has been opened before, so its header is valid.
    """
    with open(file, "rb") as content:
        header_bytes = int.from_bytes(content.read(PREFIX_BYTES), "little")
        tensors = json.loads(content.read(header_bytes))
    tensors.pop("__metadata__", None)
    data = np.memmap(file, dtype=np.uint8, mode="r", offset=PREFIX_BYTES + header_bytes)
    for name, tensor in tensors.items():
        if tensor["dtype"] in FORMATS:
            unsigned, bits = FORMATS[tensor["dtype"]]
            values = data[slice(*tensor["data_offsets"])].view(unsigned)
            if np.any(values & unsigned(bits) == bits):
                return str(name)
    return None
