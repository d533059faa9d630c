"""Share of zeros in weights."""

from collections.abc import Sequence

import torch

# A base counts as sparse from this share of zeros on. Rounding a dense base to 4 bits makes about 10 % of it zero.
SPARSE = 0.25


def share_of_zeros(weights: Sequence[torch.Tensor]) -> float:
    """Share of exact zeros in all of the weights together; 0 if there are none."""
    total = sum(weight.numel() for weight in weights)
    return sum(int((weight == 0).sum()) for weight in weights) / total if total else 0.0
