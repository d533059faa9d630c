"""Base models with the weights of a quantised runtime, dequantised to floating point, for training and evaluation."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from adaptare.core import InputError
from adaptare.core.quantisation import BLOCK
from adaptare.profiler import Configuration, ModelShape
from adaptare.profiler.workloads import WHOLE
from adaptare.search.super_adapter.base_model import Base, Origin, load_base
from adaptare.search.super_adapter.merging import check_still_sparse, merged_weights
from adaptare.search.super_adapter.model import SuperAdapter


def round_base(model: PreTrainedModel, quantisation: str, *, block: int = BLOCK) -> None:
    """Replaces the weights of the decoder's linears and of the head by their quantised and dequantised values.

    Embeddings are unchanged, even if head and embedding share their weights.

    Args:
        model: Changed in place.
        quantisation: A name in `QUANTISATIONS`, as in a workload; activations are not rounded.
        block: Inputs of a linear that share a scale. Workloads and exports have the default.
    """
    if quantisation == "none":
        return
    from adaptare.profiler.programs.onnx.quantise import rounded_weights

    linears = {site.path: model.get_submodule(site.path) for site in ModelShape.from_config(model.config).sites}
    linears["lm_head"] = model.get_output_embeddings()
    weights = {path: linear.weight.detach().float().T.numpy() for path, linear in linears.items()}
    for path, rounded in rounded_weights(weights, quantisation, block=block).items():
        weight = linears[path].weight
        # A new parameter instead of new values, because the old one may be shared with the embedding.
        linears[path].weight = nn.Parameter(torch.from_numpy(rounded).T.to(weight.dtype), requires_grad=False)
    model.config.tie_word_embeddings = False


def keep_masters(model: PreTrainedModel) -> None:
    """Keeps the weights of the decoder's linears, for adapters that are added before rounding, beyond `round_base`."""
    for site in ModelShape.from_config(model.config).sites:
        linear = model.get_submodule(site.path)
        linear.register_buffer("master", linear.get_parameter("weight").detach(), persistent=False)


def original(base: Base, quantisation: str) -> Base:
    """The base with the original weights of its folder, rounded as in `round_base`.

    Raises:
        InputError: The folder holds no model, or the base has none.
    """
    if base.origin.folder is None:
        raise InputError("this export needs the original weights of the base; give the folder of the base model")
    model, _ = load_base(base.origin.folder)
    if base.layer.on_grid:
        keep_masters(model)
    round_base(model, quantisation)
    return replace(base, model=model, origin=replace(base.origin, quantisation=quantisation))


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
    adapted = super_adapter.sub_adapter(config, Origin(Path(folder)))
    adapted = replace(adapted, base=original(adapted.base, "none"))
    check_still_sparse(adapted)
    merged, parts = merged_weights(adapted), config.parts(super_adapter.shape)
    model = adapted.base.model
    for path, weight in merged.items():
        part = parts.get(path, WHOLE)
        model.get_submodule(path).get_parameter("weight").data[part.outputs, part.inputs] = weight
    round_base(model, quantisation, block=block)
    return SuperAdapter(model, super_adapter.space, seed=0)
