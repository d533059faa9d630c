"""Linear with a low-rank adapter whose rank can be changed at any time."""

from math import sqrt
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from adaptare.profiler import Part
from adaptare.profiler.workloads import WHOLE, Halves


class ElasticLinear(nn.Module):
    """y = base(x) + factor * B[:, :r] A[:r] x, where r is the active rank, and factor is alpha over the largest.

    Ranks are nested: rank r is the first r rows of A and the first r columns of B of every larger rank. Rank 0 is
    the base alone. The factor is the same for every rank, so the output of a slice does not depend on the other rows.
    As in LoRA, A starts uniform and B at zero, so every rank starts as the base.

    `rank` is the active rank, 0 for the base alone, and `part` the active part of the linear: in a narrower MLP, W, its
    bias, A and B are sliced to the same neurons.

    Args:
        base: The adapted linear; never modified.
        largest: Rows of A and columns of B; 0 for a linear that is only sliced.
        alpha: Factor times the largest rank, above 0.
        generator: CPU generator of the initial A.

    References:
        Valipour 2022, "DyLoRA", section 3; Munoz 2024, "Shears", section 3.2. For slices: Munoz 2024, "LoNAS",
        section 3.
    """

    # False if the update is no product B A, so that it exists merged only.
    separable: ClassVar[bool] = True
    # True if the weight is rounded to the 4-bit grid of the base, so that it is merged into its codes.
    on_grid: ClassVar[bool] = False

    def __init__(self, base: nn.Linear, largest: int, *, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        self.base = base
        self.factor = alpha / max(1, largest)
        # Uniform in +-1/sqrt(fan in), as kaiming_uniform with a = sqrt(5).
        bound = 1 / sqrt(base.in_features)
        start = (2 * torch.rand(largest, base.in_features, generator=generator) - 1) * bound
        self.A = nn.Parameter(start.to(base.weight.device))
        self.B = nn.Parameter(torch.zeros(base.out_features, largest, device=base.weight.device))
        self.rank = largest
        self.part = WHOLE

    @property
    def largest(self) -> int:
        """Largest rank: all rows of A."""
        return self.A.shape[0]

    @property
    def master(self) -> torch.Tensor:
        """Weight that the update is added to. Shape (out, in)."""
        return self.base.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (..., in) -> (..., out), in the dtype of the base's output; narrower where a part is active."""
        y: torch.Tensor = self.base(x) if self.part is WHOLE else functional.linear(x, *self._active_base())
        if self.rank == 0:
            return y
        A, B = self._halves(self.rank, self.part)
        # Scaled at rank width, where the activation is smallest.
        inner = functional.linear(x.to(A.dtype), A) * self.factor
        return y + functional.linear(inner, B).to(y.dtype)

    def halves(self, rank: int, part: Part = WHOLE) -> Halves:
        """Copies of A and B, with their scale, of a rank >= 1 and a part of the linear."""
        A, B = (half.detach().float().cpu().numpy().copy() for half in self._halves(rank, part))
        return Halves(A, B, self.factor)

    @classmethod
    def merge(cls, weight: torch.Tensor, update: torch.Tensor) -> torch.Tensor:
        """Weight of a plain linear that computes the same, from that of the base and factor * B A. Shape (out, in)."""
        return weight + update

    def _halves(self, rank: int, part: Part) -> tuple[torch.Tensor, torch.Tensor]:
        return self.A[:rank, part.inputs], self.B[part.outputs, :rank]

    def _active_base(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        bias = self.base.bias if self.base.bias is None else self.base.bias[self.part.outputs]
        return self.base.weight[self.part.outputs, self.part.inputs], bias
