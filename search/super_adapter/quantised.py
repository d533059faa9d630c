"""Elastic linears whose update is merged into the 4-bit codes of their base: QA-SparsePEFT."""

from typing import ClassVar

import torch
from torch import nn

from adaptare.core.quantisation import BLOCK
from adaptare.search.super_adapter.int4_grid import int4_codes, int4_scales, int4_values
from adaptare.search.super_adapter.masked import MaskedElasticLinear
from adaptare.search.super_adapter.scaling import Scaling


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

    def __init__(self, base: nn.Linear, largest: int, *, scaling: Scaling, generator: torch.Generator) -> None:
        super().__init__(base, largest, scaling=scaling, generator=generator)
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
