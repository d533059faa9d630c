"""Base models with the weights of a quantised runtime, dequantised to floating point, for training and evaluation."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from adaptare.core import InputError
from adaptare.core.quantisation import BLOCK, QUANTISATIONS
from adaptare.profiler.workloads import SubAdapter
from adaptare.search.super_adapter.base_model import Base, decoder_linears, load_base


def round_base(model: PreTrainedModel, quantisation: str, *, block: int = BLOCK) -> None:
    """Replaces the weights of the decoder's linears and of the head by their quantised and dequantised values.

    An embedding that is tied to the head gets the head's values in 4 bits, as in ONNX files; otherwise it is unchanged.

    Args:
        model: Changed in place.
        quantisation: A name in `QUANTISATIONS`, as in a workload; activations are not rounded.
        block: Inputs of a linear that share a scale. Workloads and exports have the default.
    """
    if quantisation == "none":
        return
    from adaptare.profiler.programs import rounded_weights

    linears = {**decoder_linears(model), "lm_head": model.get_output_embeddings()}
    weights = {path: linear.weight.detach().float().T.numpy() for path, linear in linears.items()}
    for path, rounded in rounded_weights(weights, quantisation, block=block).items():
        weight = linears[path].weight
        # A new parameter instead of new values, because the old one may be shared with the embedding.
        values = torch.from_numpy(rounded).T.contiguous().to(weight.dtype)
        linears[path].weight = nn.Parameter(values, requires_grad=False)
    head = linears["lm_head"]
    if model.config.tie_word_embeddings and QUANTISATIONS[quantisation].rounds_embedding(head.in_features):
        model.get_input_embeddings().weight = head.weight
    else:
        model.config.tie_word_embeddings = False


def keep_masters(model: PreTrainedModel) -> None:
    """Keeps the weights of the decoder's linears, for adapters that are added before rounding, beyond `round_base`."""
    for linear in decoder_linears(model).values():
        linear.register_buffer("master", linear.weight.detach(), persistent=False)


def load_rounded(
    folder: str | Path, quantisation: str, *, masters: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A base as `load_base` loads it, then rounded; with `masters`, the weights before rounding are kept too."""
    model, tokenizer = load_base(folder)
    if masters:
        keep_masters(model)
    round_base(model, quantisation)
    return model, tokenizer


def original(adapted: SubAdapter[Base], quantisation: str) -> SubAdapter[Base]:
    """The adapter on a base with the original weights of its folder, rounded as in `round_base`.

    Raises:
        InputError: The folder holds no model, or the base has none.
    """
    base = adapted.base
    if base.origin.folder is None:
        raise InputError("this export needs the original weights of the base; give the folder of the base model")
    model, _ = load_rounded(base.origin.folder, quantisation, masters=base.layer.on_grid)
    return replace(adapted, base=replace(base, model=model, origin=replace(base.origin, quantisation=quantisation)))
