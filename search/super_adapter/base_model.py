"""Base models of adapters: where they come from, and their loading from a local folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from adaptare.core import InputError
from adaptare.core.quantisation import Quantisation
from adaptare.profiler import ModelShape
from adaptare.profiler.models import without_bars
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
        tokenizer = AutoTokenizer.from_pretrained(path, **AS_DATA)
    except InputError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{str(folder)!r} cannot be loaded: {error}") from error
    return model.requires_grad_(False).eval(), tokenizer


def decoder_linears(model: PreTrainedModel) -> dict[str, nn.Linear]:
    """Module path -> linear, for all linears of the decoder layers."""
    return {site.path: model.get_submodule(site.path) for site in ModelShape.from_config(model.config).sites}
