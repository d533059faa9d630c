"""The grid in torch against what ONNX Runtime's own quantiser makes of the same weights."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from adaptare.core.quantisation import BLOCK
from adaptare.profiler.programs.onnx.quantise import pack_int4, rounded_weights
from adaptare.search.super_adapter.quantised import int4_codes, int4_scales, int4_values


def drawn(kind: str, shape: tuple[int, int] = (7, 96)) -> torch.Tensor:
    """A weight of shape (out, in)."""
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    if kind == "bfloat16":  # many ties, also for the largest of a block
        weight = weight.bfloat16().float()
        weight[0, 0], weight[0, 1] = 9, -9
    if kind == "sparse":
        weight[:, ::2] = 0
        weight[0], weight[1, :BLOCK] = 0, 0
    return weight[:, :70] if kind == "partial block" else weight


def rounded(weight: torch.Tensor, block: int = BLOCK) -> NDArray[np.float32]:
    """Shape (out, in)."""
    return rounded_weights({"w": weight.T.numpy()}, "int4", block=block)["w"].T


@pytest.mark.parametrize("kind", ["normal", "bfloat16", "sparse", "partial block"])
@pytest.mark.parametrize("block", [BLOCK, 64])
def test_values_are_those_of_the_quantiser(kind: str, block: int) -> None:
    weight = drawn(kind)
    scales = int4_scales(weight, block=block)
    values = int4_values(int4_codes(weight, scales, block=block), scales, block=block)
    assert np.array_equal(values.numpy(), rounded(weight, block))


def test_the_gradient_passes_within_the_range_and_not_beyond() -> None:
    weight = drawn("normal")
    scales = int4_scales(weight)
    moved = (weight * torch.tensor([1.0] * 64 + [10.0] * 32)).requires_grad_()
    codes = int4_codes(moved, scales)
    assert (codes.min(), codes.max()) == (0, 15)
    int4_values(codes, scales).sum().backward()
    assert moved.grad is not None
    rounded = torch.floor(moved.detach().reshape(7, 3, BLOCK) / scales[..., None] + 8.5)
    inside = ((rounded >= 0) & (rounded <= 15)).reshape(7, 96)
    assert torch.allclose(moved.grad, inside.float())
    assert not inside.all()


def test_packed_codes_are_two_per_byte_and_filled_with_zero() -> None:
    packed = pack_int4(np.array([[1, 2, 15, *[8] * 31]], dtype=np.uint8))
    assert packed.shape == (1, 2, 16)
    assert packed[0, 0, :2].tolist() == [0x21, 0x8F]
    assert (packed[0, 0, 2:] == 0x88).all()
    assert (packed[0, 1] == 0x88).all()
