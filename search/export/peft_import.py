"""Import of an adapter that PEFT saved, so that it is exported and cut like any other."""

from pathlib import Path

import numpy as np
from transformers import PreTrainedModel

from adaptare.core import DeviceError, InputError
from adaptare.core.strict_json import read_json
from adaptare.profiler import Configuration, ModelShape, read_peft
from adaptare.profiler.workloads import CONFIG, SubAdapter
from adaptare.search.export.peft import read_halves, scale_of_patterns
from adaptare.search.super_adapter.base_model import IN_MEMORY, Base, Origin

# Initialisations that leave the base unchanged; others move a part of its weights into the adapter.
BEGINNINGS = (True, False, "gaussian", "eva", "orthogonal")


def check_plain(folder: str | Path, config: Configuration) -> None:
    """Checks that an adapter is a LoRA beside an unchanged base. Raises `InputError`.

    Args:
        folder: Folder with `adapter_config.json`.
        config: Its configuration.
    """
    if config.kind != "lora":
        raise InputError(
            f"{folder} is a DoRA; merge it with PEFT's merge_and_unload, which gives a model like any other"
        )
    if (beginning := read_json(Path(folder) / CONFIG).get("init_lora_weights", True)) not in BEGINNINGS:
        raise InputError(
            f"{folder} was initialised with {beginning!r}, which changes the base; save it again with "
            "PEFT's save_pretrained(..., path_initial_model_for_weight_conversion=...), then it fits the base as it was"
        )


def import_peft(folder: str | Path, model: PreTrainedModel, origin: Origin = IN_MEMORY) -> SubAdapter[Base]:
    """Reads a LoRA or rsLoRA of a base model, whose weights are unchanged.

    Args:
        folder: Folder with `adapter_config.json` and `adapter_model.safetensors`.
        model: Base model.
        origin: Source of the base.

    Raises:
        InputError: The adapter is not a LoRA, is of another base model or a modified one, has no weights, or has NaN or
            infinity among them once they are scaled.
    """
    config = read_peft(folder, ModelShape.from_config(model.config))
    check_plain(folder, config)
    try:
        halves = read_halves(Path(folder), scale_of_patterns)
    except DeviceError as error:
        raise InputError(
            f"{folder}: its adapter_config.json and its weights disagree ({error}); save it again with PEFT"
        ) from error
    if silent := [path for path, own in halves.items() if not own.scale]:
        raise InputError(f"{folder}: lora_alpha of {silent[0]!r} is 0, so its weights change nothing; give it a scale")
    with np.errstate(over="ignore"):
        for path, own in halves.items():
            if not all(np.isfinite(half).all() for half in own.of_rows):
                raise InputError(
                    f"{folder}: weights of {path!r} with their scale are NaN or infinite in 32 bits; check its "
                    "lora_alpha, or train it again"
                )
    return SubAdapter(config, halves, Base(model, origin=origin))
