"""Merging of a sub-adapter into the weights of its base."""

import torch
from transformers import PreTrainedModel

from adaptare.core import InputError
from adaptare.profiler.programs.torch.cut import narrowed, set_weight, shallow, shared_copy, tensors_of
from adaptare.profiler.workloads import WHOLE, SubAdapter
from adaptare.search.super_adapter.base_model import Base
from adaptare.search.super_adapter.quantised import QuantisedElasticLinear
from adaptare.search.super_adapter.zeros import SPARSE, share_of_zeros

Weights = dict[str, torch.Tensor]


def dense(adapted: SubAdapter[Base]) -> PreTrainedModel:
    """Model with the adapter merged into its weights, cut to the configuration; other weights are shared."""
    config = adapted.configuration
    clone = shared_copy(narrowed(adapted.base.model, config.parts(adapted.base.shape)))
    for path, weight in merged_weights(adapted).items():
        set_weight(clone.get_submodule(path), weight)
    model: PreTrainedModel = shallow(clone, config.left_out)
    return model


def merged_weights(adapted: SubAdapter[Base]) -> Weights:
    """Module path -> weight of the base with the adapter merged, shape (out, in) at its widths, for its sites."""
    layer, before = adapted.base.layer, _masters(adapted)
    weights = {path: layer.merge(before[path], update) for path, update in updates(adapted).items()}
    return {path: weight.to(adapted.base.model.dtype) for path, weight in weights.items()}


def updates(adapted: SubAdapter[Base]) -> Weights:
    """Module path -> factor * B A, shape (out, in)."""
    like = torch.empty(0, device=adapted.base.model.device)
    return {path: own.scale * torch.mm(*reversed(tensors_of(own, like))) for path, own in adapted.halves.items()}


def _masters(adapted: SubAdapter[Base]) -> Weights:
    """Module path -> weight that the update is added to: that before rounding, if it was kept."""
    parts = adapted.configuration.parts(adapted.base.shape)
    linears = ((path, adapted.base.model.get_submodule(path)) for path in adapted.halves)
    whole = ((path, getattr(linear, "master", linear.weight).detach()) for path, linear in linears)
    return {path: weight[(part := parts.get(path, WHOLE)).outputs, part.inputs].float() for path, weight in whole}


def int4_codes(adapted: SubAdapter[Base], layer: type[QuantisedElasticLinear]) -> Weights:
    """Module path -> codes 0 to 15 of the merged weight, uint8, shape (out, in)."""
    before = _masters(adapted)
    return {path: layer.codes(before[path], update) for path, update in updates(adapted).items()}


def fills_zeros(adapted: SubAdapter[Base]) -> bool:
    """True if the base is sparse, and merging the adapter would fill its zeros."""
    before, after = _masters(adapted), merged_weights(adapted)
    filled = (bool(((before[path] == 0) & (new != 0)).any()) for path, new in after.items())
    return share_of_zeros(list(before.values())) >= SPARSE and any(filled)


def check_still_sparse(adapted: SubAdapter[Base]) -> None:
    """Raises `InputError` with the remaining share of zeros if merging would fill zeros of a sparse base."""
    if fills_zeros(adapted):
        before, after = list(_masters(adapted).values()), list(merged_weights(adapted).values())
        raise InputError(
            f"merging this adapter would leave {share_of_zeros(after):.1%} zeros in {len(after)} linears that are "
            f"{share_of_zeros(before):.1%} zeros now; keep it apart (export it as peft, onnx-static or "
            "onnx-swappable), or train one that keeps zeros, with the recipe sqft-sparsepeft"
        )


def check_apart(adapted: SubAdapter[Base]) -> None:
    """Raises `InputError` if the adapter is empty, or exists merged only."""
    if not adapted.base.layer.separable:
        raise InputError(
            "this adapter changes only the non-zero weights of its base, which no adapter file can express; export it "
            "merged, as merged or onnx"
        )
