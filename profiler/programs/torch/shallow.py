"""Decoders of transformers with fewer layers, made of the modules of the whole model."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from torch import nn


def shallow(model: nn.Module, left_out: Sequence[int]) -> Any:
    """The model without some of its layers, in the memory of the whole one; with PEFT's adapters if it has some."""
    if not left_out:
        return model
    clone: Any = deepcopy(model, {id(tensor): tensor for tensor in (*model.buffers(), *model.parameters())})
    plain = clone.get_base_model() if hasattr(clone, "get_base_model") else clone
    keep_layers(plain, [layer for layer in range(len(plain.model.layers)) if layer not in left_out])
    return clone


def keep_layers(model: Any, kept: Sequence[int]) -> None:
    """Makes a decoder consist of some of its layers, in place: numbered anew, as its key/value cache needs them."""
    types = getattr(model.config, "layer_types", None)
    set_layers(model, [model.model.layers[layer] for layer in kept], types and [types[layer] for layer in kept])


def set_layers(model: Any, layers: Sequence[nn.Module], types: Sequence[str] | None) -> None:
    """Makes a decoder consist of these layers, in place.

    Args:
        model: A causal language model of transformers.
        layers: Decoder layers of this architecture.
        types: Attention type of each layer, where the config names them.
    """
    model.model.layers = nn.ModuleList(layers)
    for number, layer in enumerate(layers):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                setattr(module, "layer_idx", number)  # noqa: B010  # modules have no such attribute for type checkers
    if types:
        model.config.layer_types = list(types)
    model.config.num_hidden_layers = len(layers)
