"""ONNX Runtime's grid of 4-bit weights in torch: codes 0 to 15 with a scale per block, differentiable.

The grid is that of `MatMulNBits` in the graphs that adaptare quantises: symmetric, so code 8 is zero, with one scale
for each block of inputs of an output row: 32, unless said otherwise.
"""

import torch
from torch.nn import functional

from adaptare.core.quantisation import BLOCK

ZERO, LARGEST = 8, 15


def int4_scales(weight: torch.Tensor, *, block: int = BLOCK) -> torch.Tensor:
    """Scales of a weight, shape (out, in), in which the entry of largest magnitude of a block has code 0.

    Returns:
        Shape (out, blocks); negative where that entry is positive, and 0 in blocks of zeros.
    """
    blocks = _blocks(weight.float(), block)
    low, high = blocks.amin(dim=-1), blocks.amax(dim=-1)
    return torch.where(high > -low, high, low) / -ZERO


def int4_codes(weight: torch.Tensor, scales: torch.Tensor, *, block: int = BLOCK) -> torch.Tensor:
    """Codes of the values of the grid that are nearest to a weight, as floating-point numbers. Shape (out, in).

    Their gradient is that of the scaled weight within the range of the codes, and 0 outside (straight-through).
    """
    reciprocals = torch.where(scales != 0, 1 / scales, 0)
    scaled = _blocks(weight.float(), block) * reciprocals[..., None] + ZERO
    rounded = scaled + (torch.floor(scaled + 0.5) - scaled).detach()
    return rounded.clamp(0, LARGEST).flatten(1)[:, : weight.shape[1]]


def int4_values(codes: torch.Tensor, scales: torch.Tensor, *, block: int = BLOCK) -> torch.Tensor:
    """Values of codes. Shape (out, in)."""
    return ((_blocks(codes, block, padding=ZERO) - ZERO) * scales[..., None]).flatten(1)[:, : codes.shape[1]]


def _blocks(weight: torch.Tensor, block: int, *, padding: float = 0.0) -> torch.Tensor:
    """Shape (out, in) -> (out, blocks, block); the last block is padded."""
    padded = functional.pad(weight, (0, -weight.shape[1] % block), value=padding)
    return padded.reshape(len(weight), -1, block)
