"""Elastic linears whose update keeps the zeros of their base (SparsePEFT), also in 4-bit codes (QA-SparsePEFT).

The grid of 4-bit weights is that of `MatMulNBits` in the graphs that adaptare quantises: codes 0 to 15, of which 8 is
zero, and one scale for each block of inputs of an output row.
"""

from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from adaptare.core.quantisation import BLOCK
from adaptare.search.super_adapter.elastic import ElasticLinear

ZERO, LARGEST = 8, 15


class MaskedElasticLinear(ElasticLinear):
    """y = (W + M * factor B[:, :r] A[:r]) x, where M is 1 at the non-zero weights of the base, 0 elsewhere.

    Merging keeps every zero. The update is no product of small matrices, so there is no adapter to keep apart from
    the base, and each call computes a weight of full size, in training too.

    References:
        Munoz et al. 2024, "SQFT: low-cost model adaptation in low-precision sparse foundation models", equation 2.
    """

    separable = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Output of the linear whose weight has the masked update of the active rank."""
        if self.rank == 0:
            found: torch.Tensor = self.base(x)
            return found
        return functional.linear(x, self.adapted(self.rank).to(x.dtype), self.base.bias)

    def adapted(self, rank: int) -> torch.Tensor:
        """Weight at a rank >= 1, differentiable in A and B. Shape (out, in)."""
        with torch.autocast(self.A.device.type, enabled=False):  # so that it is what the merge writes
            update = self.factor * (self.B[:, :rank] @ self.A[:rank])
        return MaskedElasticLinear.merge(self.master, update)

    @classmethod
    def merge(cls, weight: torch.Tensor, update: torch.Tensor) -> torch.Tensor:
        """The weight plus the update where the weight is not zero."""
        return weight + torch.where(weight != 0, update, 0)


class QuantisedElasticLinear(MaskedElasticLinear):
    """The weight of `MaskedElasticLinear`, rounded to the 4-bit grid of the base in every call.

    The scales are those of the base without adapter, and fixed. Rounding has a straight-through gradient. Merging
    writes integer codes; a zero of the base keeps the code of zero. The update is added to the `master` of the base,
    its weight before rounding, if `keep_masters` has kept it; with a rounded weight, updates below half a step would
    be lost.

    References:
        Munoz et al. 2024, "SQFT: low-cost model adaptation in low-precision sparse foundation models", equations 3
        and 4.
    """

    on_grid = True
    # Inputs that share a scale. Exports have blocks of `BLOCK`.
    block: ClassVar[int] = BLOCK

    def __init__(self, base: nn.Linear, largest: int, *, alpha: float, generator: torch.Generator) -> None:
        super().__init__(base, largest, alpha=alpha, generator=generator)
        self.register_buffer("scales", int4_scales(self.master.detach(), block=self.block), persistent=False)

    @property
    def master(self) -> torch.Tensor:
        """Weight of the base before its rounding, if that is kept."""
        found: torch.Tensor = getattr(self.base, "master", self.base.weight)
        return found

    def adapted(self, rank: int) -> torch.Tensor:
        """Weight at a rank >= 1, rounded to the grid of the base. Shape (out, in)."""
        scales = self.get_buffer("scales")
        return int4_values(int4_codes(super().adapted(rank), scales, block=self.block), scales, block=self.block)

    @classmethod
    def merge(cls, weight: torch.Tensor, update: torch.Tensor) -> torch.Tensor:
        """The masked sum, rounded to the grid of the weight."""
        return int4_values(cls.codes(weight, update).float(), int4_scales(weight, block=cls.block), block=cls.block)

    @classmethod
    def codes(cls, weight: torch.Tensor, update: torch.Tensor) -> torch.Tensor:
        """Codes 0 to 15 of the merged weight, as uint8; arguments as in `merge`."""
        scales = int4_scales(weight, block=cls.block)
        return int4_codes(super().merge(weight, update), scales, block=cls.block).to(torch.uint8)


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
