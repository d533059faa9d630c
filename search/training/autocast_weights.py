"""Frozen weights in bfloat16 during a training with autocast."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from adaptare.search.super_adapter.elastic import ElasticLinear


@contextmanager
def frozen_weights_in_bfloat16(model: nn.Module, *, enabled: bool = True) -> Iterator[None]:
    """Casts frozen weights of linears once, where autocast casts them in every pass; results are the same to the bit.

    Linears that compute their update in float32, at full size, keep their weights. So does an embedding that shares its
    weights with the head. The weights are restored afterwards; meanwhile they take half as much memory again.

    Args:
        model: A model whose passes run under autocast to bfloat16 within.
        enabled: False to change nothing.
    """
    exact = {id(each.base) for each in model.modules() if isinstance(each, ElasticLinear) and not each.separable}
    linears = [each for each in model.modules() if isinstance(each, nn.Linear) and id(each) not in exact]
    originals = [(each, each.weight) for each in linears if enabled and not each.weight.requires_grad]
    try:
        for linear, weight in originals:
            linear.weight = nn.Parameter(weight.detach().to(torch.bfloat16), requires_grad=False)
        yield
    finally:
        for linear, weight in originals:
            weight.data = weight.data.to(linear.weight.device)  # the model may have been moved
            linear.weight = weight
