"""Decoders of transformers cut to a configuration, and adapters merged into their weights."""

from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from adaptare.profiler.workloads.configuration import AdapterKind, Configuration
from adaptare.profiler.workloads.part import WHOLE, Part
from adaptare.profiler.workloads.sub_adapter import Halves, SubAdapter


def shared_copy(model: nn.Module, owned: Collection[str] = ()) -> Any:
    """A copy of the modules in the memory of the same weights, except for those named."""
    weights = [*model.named_buffers(), *((name, each) for name, each in model.named_parameters() if name not in owned)]
    return deepcopy(model, {id(tensor): tensor for _, tensor in weights})


def narrowed(model: nn.Module, parts: Mapping[str, Part]) -> Any:
    """The model with only parts of some linears: module path -> part of its weight that stays.

    Row slices are views into the memory of the base; column slices are copied, as every runtime needs them contiguous.
    """
    if not parts:
        return model
    clone = shared_copy(model)
    for path, part in parts.items():
        linear = clone.get_submodule(path)
        weight = linear.get_parameter("weight").data[part.outputs, part.inputs].contiguous()
        set_weight(linear, weight)
        if linear.bias is not None:
            linear.bias = nn.Parameter(linear.get_parameter("bias").data[part.outputs], requires_grad=False)
    return clone


def set_weight(linear: nn.Module, weight: torch.Tensor) -> None:
    """Replaces the weight of a linear, which other modules may share, and its sizes."""
    linear.weight = nn.Parameter(weight, requires_grad=False)
    for name, size in zip(("out_features", "in_features"), weight.shape, strict=True):
        setattr(linear, name, size)


def merge(
    model: nn.Module,
    halves: Mapping[str, Halves],
    *,
    kind: AdapterKind,
    parts: Mapping[str, Part] | None = None,
    rounded: str = "",
) -> None:
    """Adds an adapter to the weights of a model, in place; DoRA keeps the row norms.

    Args:
        model: Modified in place.
        halves: Module path -> update.
        kind: Kind of the adapter.
        parts: Module path -> the part of the weight that the adapter applies to, where it is not the whole weight.
        rounded: Name of the torch dtype that A and B are rounded to; default: that of the weights.
    """
    for path, own in halves.items():
        whole, part = model.get_submodule(path).get_parameter("weight").data, (parts or {}).get(path, WHOLE)
        weight = whole[part.outputs, part.inputs]
        A, B = tensors_of(own, weight, rounded)
        lengths = weight.norm(dim=1, keepdim=True)
        weight = weight + own.scale * (B @ A)
        if kind == "dora":
            weight *= lengths / weight.norm(dim=1, keepdim=True)
        whole[part.outputs, part.inputs] = weight


def tensors_of(halves: Halves, weight: torch.Tensor, rounded: str = "") -> tuple[torch.Tensor, torch.Tensor]:
    """A, shape (rank, in), and B, shape (out, rank), like a weight in dtype and device, rounded to another dtype."""
    dtype = getattr(torch, rounded) if rounded else weight.dtype
    A, B = (torch.from_numpy(half).to(dtype).to(weight) for half in (halves.A, halves.B))
    return A, B


def random_sub_adapter(model: nn.Module, ranks: Mapping[str, int], kind: AdapterKind) -> SubAdapter[nn.Module]:
    """Random weights for some linears of a model: module path -> rank."""
    halves = {}
    for path, rank in ranks.items():
        out_features, in_features = model.get_submodule(path).get_parameter("weight").shape
        halves[path] = Halves.random(path, rank, in_features, out_features)
    return SubAdapter(Configuration.of(ranks, kind=kind), halves, model)


def shallow(model: nn.Module, left_out: Collection[int]) -> Any:
    """The model without some of its layers, in the memory of the whole one; with PEFT's adapters if it has some."""
    if not left_out:
        return model
    clone = shared_copy(model)
    plain = plain_model(clone)
    kept = [layer for layer in range(len(plain.model.layers)) if layer not in left_out]
    types = getattr(plain.config, "layer_types", None)
    set_layers(plain, [plain.model.layers[layer] for layer in kept], types and [types[layer] for layer in kept])
    return clone


def plain_model(model: Any) -> Any:
    """The transformers model inside a PEFT model."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def set_layers(model: Any, layers: Sequence[nn.Module], types: Sequence[str] | None) -> None:
    """Makes a decoder consist of these layers, in place: numbered anew, as its key/value cache needs them.

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
