"""Elastic linears whose update is merged without changing the zeros of their base: SparsePEFT."""

import torch
from torch.nn import functional

from adaptare.search.super_adapter.elastic import ElasticLinear


class MaskedElasticLinear(ElasticLinear):
    """y = (W + M * factor(r) B[:, :r] A[:r]) x, where M is 1 at the non-zero weights of the base, 0 elsewhere.

    Merging keeps every zero. The update is no product of small matrices, so there is no adapter to keep apart from
    the base, and each call computes a weight of full size, in training too.

    References:
        Munoz et al. 2024, "SQFT: low-cost model adaptation in low-precision sparse foundation models", equation 2.
    """

    separable = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Output of the linear whose weight has the masked update of the active rank."""
        if self._rank == 0:
            found: torch.Tensor = self.base(x)
            return found
        return functional.linear(x, self.adapted(self._rank).to(x.dtype), self.base.bias)

    def adapted(self, rank: int) -> torch.Tensor:
        """Weight at a rank >= 1, differentiable in A and B. Shape (out, in)."""
        with torch.autocast(self.A.device.type, enabled=False):  # so that it is what the merge writes
            update = self.scaling.factor(rank, self.largest) * (self.B[:, :rank] @ self.A[:rank])
        return MaskedElasticLinear.merge(self.master, update)

    @classmethod
    def merge(cls, weight: torch.Tensor, update: torch.Tensor) -> torch.Tensor:
        """The weight plus the update where the weight is not zero."""
        return weight + torch.where(weight != 0, update, 0)
