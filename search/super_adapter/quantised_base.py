"""Base models with the weights of a quantised runtime, dequantised to floating point, for training and evaluation."""

from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from adaptare.core.quantisation import BLOCK
from adaptare.profiler import Configuration, ModelShape
from adaptare.profiler.workloads.narrowing import WHOLE, kept_parts
from adaptare.search.super_adapter.base_model import load_base
from adaptare.search.super_adapter.model import SuperAdapter


def round_base(model: PreTrainedModel, quantisation: str, *, block: int = BLOCK) -> None:
    """Replaces the weights of the decoder's linears and of the head by their quantised and dequantised values.

    Embeddings are unchanged, even if head and embedding share their weights.

    Args:
        model: Changed in place.
        quantisation: `none`, `int8` or `int4`, as in a workload; activations are not rounded.
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


def on_base(super_adapter: SuperAdapter, folder: str | Path, quantisation: str) -> SuperAdapter:
    """Copy of the adapters on the model of a folder, whose weights are rounded as in `round_base`.

    Args:
        super_adapter: Super-adapter to copy; not modified.
        folder: Folder of the base model's original weights.
        quantisation: `none`, `int8` or `int4`.

    Raises:
        InputError: The folder holds no model, or one of another shape.
    """
    model, _ = load_base(folder)
    if super_adapter.on_grid:
        keep_masters(model)
    round_base(model, quantisation)
    copied = SuperAdapter(model, super_adapter.space, scaling=super_adapter.scaling, seed=0, layer=super_adapter.layer)
    trained = super_adapter.state()
    for name, tensor in copied.state().items():
        tensor.copy_(trained[name])
    return copied


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
        quantisation: `int8` or `int4`; or `none`, to merge only.
        block: See `round_base`.

    Raises:
        InputError: The config is not of this super-adapter; the folder holds no model; or merging would fill the zeros
            of a sparse base.
    """
    original = on_base(super_adapter, folder, "none")
    merged, parts = original.merged(config), kept_parts(super_adapter.shape, config.by_layer)
    original.remove()
    for path, weight in merged.items():
        part = parts.get(path, WHOLE)
        original.model.get_submodule(path).get_parameter("weight").data[part.outputs, part.inputs] = weight
    round_base(original.model, quantisation, block=block)
    return SuperAdapter(original.model, super_adapter.space, seed=0)
