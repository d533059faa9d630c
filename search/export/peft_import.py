"""Import of a PEFT adapter as the only configuration of a super-adapter, so that it is exported like any other."""

import warnings
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel
from transformers import PreTrainedModel

from adaptare.core import InputError
from adaptare.profiler import Configuration, ModelShape, read_peft
from adaptare.profiler.workloads.space import rank_space
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.super_adapter.scaling import Scaling

# Initialisations that leave the base unchanged; others move a part of its weights into the adapter.
BEGINNINGS = (True, False, "gaussian", "eva", "orthogonal")


def import_peft(folder: str | Path, model: PreTrainedModel) -> tuple[SuperAdapter, Configuration]:
    """Loads a LoRA or rsLoRA onto its base model, whose weights are unchanged.

    Args:
        folder: Folder with `adapter_config.json` and `adapter_model.safetensors`.
        model: Base model.

    Returns:
        A super-adapter of exactly these sites and ranks, and their adapter config.

    Raises:
        InputError: The adapter is not a LoRA, is of another base model or a modified one, has no weights, or has NaN or
            infinity among them once they are scaled.
    """
    config = read_peft(folder, ModelShape.from_config(model.config))
    if config.kind != "lora":
        raise InputError(
            f"{folder} is a DoRA; merge it with PEFT's merge_and_unload, which gives a model like any other"
        )
    settings = LoraConfig.from_pretrained(str(folder))
    if settings.init_lora_weights not in BEGINNINGS:
        raise InputError(
            f"{folder} was initialised with {settings.init_lora_weights!r}, which changes the base; save it again with "
            "PEFT's save_pretrained(..., path_initial_model_for_weight_conversion=...), then it fits the base as it was"
        )
    settings.init_lora_weights = False
    parts = {}
    try:
        with warnings.catch_warnings():
            # PEFT asks transformers for a flag under its old name.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            loaded = PeftModel.from_pretrained(model, str(folder), config=settings)
        name = loaded.active_adapter
        for path, _ in config.ranks:
            layer = loaded.base_model.model.get_submodule(path)
            A, B = (half[name].weight.detach().float().clone() for half in (layer.lora_A, layer.lora_B))
            parts[path] = A, B * layer.scaling[name]
    except (RuntimeError, AttributeError, KeyError, ValueError) as error:
        raise InputError(
            f"{folder}: its adapter_config.json and its weights disagree ({error}); save it again with PEFT"
        ) from error
    base = loaded.unload()
    if wrong := [path for path, pair in parts.items() if not all(torch.isfinite(half).all() for half in pair)]:
        raise InputError(
            f"{folder}: weights of {wrong[0]!r} with their scale are NaN or infinite in 32 bits; check its lora_alpha, "
            "or train it again"
        )
    sites = tuple(site for site in ModelShape.from_config(base.config).sites if site.path in parts)
    ranks = config.by_path
    space = rank_space(
        str(folder), sites, [[index] for index in range(len(sites))], [[ranks[site.path]] for site in sites]
    )
    super_adapter = SuperAdapter(base, space, scaling=Scaling(alpha=1.0), seed=0)
    scales, state = super_adapter.scales(config), super_adapter.state()
    with torch.no_grad():
        for path, (A, B) in parts.items():
            state[f"{path}.A"].copy_(A)
            state[f"{path}.B"].copy_(B / scales[path])
    return super_adapter, config
