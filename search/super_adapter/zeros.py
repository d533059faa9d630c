"""Share of zeros in weights, and its loss in a merge."""

from collections.abc import Sequence

import torch

from adaptare.core import InputError

# A base counts as sparse from this share of zeros on. Rounding a dense base to 4 bits makes about 10 % of it zero.
SPARSE = 0.25


def share_of_zeros(weights: Sequence[torch.Tensor]) -> float:
    """Share of exact zeros in all of the weights together; 0 if there are none."""
    total = sum(weight.numel() for weight in weights)
    return sum(int((weight == 0).sum()) for weight in weights) / total if total else 0.0


def fills_zeros(before: Sequence[torch.Tensor], after: Sequence[torch.Tensor]) -> bool:
    """True if the weights are sparse before a merge, and zeros among them are not zero after it."""
    filled = (bool(((old == 0) & (new != 0)).any()) for old, new in zip(before, after, strict=True))
    return share_of_zeros(before) >= SPARSE and any(filled)


def check_still_sparse(before: Sequence[torch.Tensor], after: Sequence[torch.Tensor]) -> None:
    """Raises `InputError` with the remaining share of zeros if a merge fills zeros of sparse weights."""
    if fills_zeros(before, after):
        raise InputError(
            f"merging this adapter would leave {share_of_zeros(after):.1%} zeros in {len(after)} linears that are "
            f"{share_of_zeros(before):.1%} zeros now; keep it apart (--to peft, onnx-static or onnx-swappable), or "
            "train one that keeps zeros: --recipe sqft-sparsepeft"
        )
