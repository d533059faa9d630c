"""Base models of adapters: where they come from, their loading from a local folder, and their rounding.

Rounded weights are those of a quantised runtime, dequantised to floating point, for training and evaluation.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from adaptare.core import InputError
from adaptare.core.quantisation import BLOCK, QUANTISATIONS, Quantisation
from adaptare.profiler import ModelShape
from adaptare.profiler.models import without_bars
from adaptare.profiler.workloads import SubAdapter
from adaptare.search.super_adapter.elastic import ElasticLinear


@dataclass(frozen=True)
class Origin:
    """Source of a base model.

    Args:
        folder: Folder of the original weights; `None` for a model that exists in memory only.
        name: Hub id or folder by which others load it; `None` if it has no name that is valid on another machine.
        tokenizer: Saved with exports that hold the base.
        quantisation: Quantisation of the weights in memory, on which adapters were trained.
        prepared: True if a recipe changed the weights, so that the adapter fits no other base.
    """

    folder: Path | None = None
    name: str | None = None
    tokenizer: PreTrainedTokenizerBase | None = None
    quantisation: Quantisation = "none"
    prepared: bool = False


IN_MEMORY: Final = Origin()
# A folder is read without the network, and no code in it is run.
AS_DATA: Final[Mapping[str, bool]] = {"local_files_only": True, "trust_remote_code": False}


@dataclass(frozen=True)
class Base:
    """Base model of an adapter.

    Args:
        model: The complete model, without adapters.
        layer: Elastic linear of the adapter, which says how an update is merged into a weight.
        origin: Source of the model.
    """

    model: PreTrainedModel
    layer: type[ElasticLinear] = ElasticLinear
    origin: Origin = IN_MEMORY

    @property
    def shape(self) -> ModelShape:
        """Sizes of the model."""
        return ModelShape.from_config(self.model.config)


def load_base(folder: str | Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Loads the model, in fp32, frozen and in evaluation mode, and the tokenizer of a folder; no network is used.

    Raises:
        InputError: The folder holds no causal language model with safetensors weights and a tokenizer, or one
            of a family whose linears are not known.
    """
    path = Path(folder)
    if not (path / "config.json").is_file():
        raise InputError(f"{str(folder)!r} is no model folder: it has no config.json")
    if not any(path.glob("*.safetensors")):
        raise InputError(f"{str(folder)!r} has no *.safetensors; save the model with transformers' save_pretrained")
    try:
        ModelShape.from_config(AutoConfig.from_pretrained(path, **AS_DATA))
        with without_bars():
            model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, use_safetensors=True, **AS_DATA)
    except InputError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{str(folder)!r} cannot be loaded: {error}") from error
    return model.requires_grad_(False).eval(), load_tokenizer(path)


def load_tokenizer(folder: str | Path) -> PreTrainedTokenizerBase:
    """Loads the tokenizer of a folder alone. Raises `InputError` if it has none."""
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, **AS_DATA)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{str(folder)!r} has no tokenizer that can be loaded: {error}") from error
    return tokenizer


def decoder_linears(model: PreTrainedModel) -> dict[str, nn.Linear]:
    """Module path -> linear, for all linears of the decoder layers."""
    return {site.path: model.get_submodule(site.path) for site in ModelShape.from_config(model.config).sites}


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
