"""Merging of a sub-adapter into the weights of its base."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from transformers import PreTrainedModel

from adaptare.core import InputError
from adaptare.core.quantisation import BLOCK
from adaptare.profiler import Configuration
from adaptare.profiler.programs import narrowed, set_weight, shallow, shared_copy, tensors_of
from adaptare.profiler.workloads import WHOLE, SubAdapter
from adaptare.search.super_adapter.base_model import Base, Origin, original, round_base
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.super_adapter.quantised import QuantisedElasticLinear

Weights = dict[str, torch.Tensor]
# A base counts as sparse from this share of zeros on. Rounding a dense base to 4 bits makes about 10 % of it zero.
SPARSE = 0.25


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


def int4_codes(adapted: SubAdapter[Base]) -> Weights:
    """Module path -> codes 0 to 15 of the merged weight, uint8, shape (out, in), of layers on the grid."""
    layer, before = cast(type[QuantisedElasticLinear], adapted.base.layer), _masters(adapted)
    return {path: layer.codes(before[path], update) for path, update in updates(adapted).items()}


def share_of_zeros(weights: Sequence[torch.Tensor]) -> float:
    """Share of exact zeros in all of the weights together; 0 if there are none."""
    total = sum(weight.numel() for weight in weights)
    return sum(int((weight == 0).sum()) for weight in weights) / total if total else 0.0


def fills_zeros(adapted: SubAdapter[Base]) -> bool:
    """True if the base is sparse, and merging the adapter would fill its zeros."""
    before = _masters(adapted)
    if share_of_zeros(list(before.values())) < SPARSE:
        return False
    return any(bool(((before[path] == 0) & (new != 0)).any()) for path, new in merged_weights(adapted).items())


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
    """Raises `InputError` if the adapter exists merged only."""
    if not adapted.base.layer.separable:
        raise InputError(
            "this adapter changes only the non-zero weights of its base, which no adapter file can express; export it "
            "merged, as merged or onnx"
        )


def requantised(
    super_adapter: SuperAdapter, config: Configuration, folder: str | Path, quantisation: str, *, block: int = BLOCK
) -> SuperAdapter:
    """Base with a sub-adapter merged in floating point and then quantised, as a separate super-adapter.

    With rank 0 everywhere, at the widths and depth of the config, its outputs are those of application mode
    `requantised`, so that its loss can be compared. Of a narrower layer whose width is no multiple of the
    quantisation's block, the last block is scaled with neurons that are cut off, unlike in a model that is cut first.

    Args:
        super_adapter: Source of the sub-adapter; not modified.
        config: Ranks, widths and layers left out.
        folder: Folder of the base model's original weights.
        quantisation: A name in `QUANTISATIONS`; `none` merges only.
        block: See `round_base`.

    Raises:
        InputError: The config is not of this super-adapter; the folder holds no model; or merging would fill the zeros
            of a sparse base.
    """
    adapted = original(super_adapter.sub_adapter(config, Origin(Path(folder))), "none")
    check_still_sparse(adapted)
    merged, parts = merged_weights(adapted), config.parts(super_adapter.shape)
    model = adapted.base.model
    for path, weight in merged.items():
        part = parts.get(path, WHOLE)
        model.get_submodule(path).get_parameter("weight").data[part.outputs, part.inputs] = weight
    round_base(model, quantisation, block=block)
    again = SuperAdapter(model, super_adapter.space, seed=0)
    again.bf16 = super_adapter.bf16
    return again
