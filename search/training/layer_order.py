"""Order in which decoder layers are left out: those that change the hidden state least come first."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

from adaptare.search.training.neuron_order import calibration_batches
from adaptare.search.training.token_examples import TokenExample


def layer_order(model: PreTrainedModel, calibration: Sequence[TokenExample]) -> tuple[int, ...]:
    """Layers by ascending block influence, but the last one and then the first one at the end: the first always stays.

    Raises:
        InputError: The examples have too few tokens.
    """
    influence = block_influence(model, calibration)
    inner = sorted(range(1, len(influence) - 1), key=lambda layer: float(influence[layer]))
    return (*inner, *dict.fromkeys((len(influence) - 1, 0)))


def block_influence(model: PreTrainedModel, calibration: Sequence[TokenExample]) -> NDArray[np.float64]:
    """One minus the mean cosine of the hidden states before and after each layer. Shape (layers,).

    Args:
        model: A causal language model without adapters.
        calibration: Examples, of which prompt and completion count.

    Raises:
        InputError: The examples have too few tokens.

    References:
        Men et al. 2024, "ShortGPT", equation 1.
    """
    layers = list(model.get_submodule("model.layers").children())
    cosines, tokens = np.zeros(len(layers)), 0
    for ids, mask in calibration_batches(model, calibration):
        tokens += int(mask.sum())
        with _seen(layers, cosines, mask.bool()), torch.inference_mode():
            model(input_ids=ids, attention_mask=mask, logits_to_keep=1, use_cache=False)
    return 1 - cosines / tokens


@contextmanager
def _seen(layers: Sequence[nn.Module], cosines: NDArray[np.float64], mask: torch.Tensor) -> Iterator[None]:
    """Adds the cosine of the hidden states before and after each layer, where the mask is true. Shape (layers,)."""

    def add(layer: int, module: nn.Module, inputs: tuple[torch.Tensor, ...], output: Any) -> None:
        before, after = inputs[0], output[0] if isinstance(output, tuple) else output
        cosines[layer] += float(functional.cosine_similarity(before[mask].double(), after[mask].double()).sum())

    with ExitStack() as hooks:
        for number, layer in enumerate(layers):
            hooks.enter_context(layer.register_forward_hook(partial(add, number)))
        yield
