"""Export of a sub-adapter to files that unmodified PEFT or transformers load."""

from pathlib import Path

from transformers import PreTrainedTokenizerBase

from adaptare.devices.program import Json
from adaptare.profiler import Configuration
from adaptare.profiler.workloads.adapter import peft_arguments
from adaptare.search.export.folder import export_folder
from adaptare.search.export.peft_files import write_peft
from adaptare.search.progress_bars import without_progress_bars
from adaptare.search.super_adapter.model import SuperAdapter


def export_peft(
    super_adapter: SuperAdapter, config: Configuration, folder: str | Path, *, base_name: str | None
) -> None:
    """Writes `adapter_model.safetensors` and `adapter_config.json` of a sub-adapter.

    The config names every site by its full path, with a separate rank and alpha; sites without adapter are
    absent.

    Args:
        super_adapter: Source of the weights.
        config: Sites and ranks, at least one.
        folder: Absent, empty, or an earlier export, which is replaced.
        base_name: Hub id or folder of the base model, used when the adapter is loaded without naming one; `None` if
            it has no name that is valid on another machine.

    Raises:
        InputError: The config is empty or not of this super-adapter, a weight is NaN or infinite, or the folder holds
            other files.
        StorageError: The folder could not be written; its earlier content is intact.
    """
    arguments = peft_arguments(config, super_adapter.scales(config))
    with export_folder(folder, origin=export_origin("peft", config, base_name)) as fresh:
        write_peft(fresh, super_adapter.tensors(config), arguments, base_name=base_name)


def export_merged(
    super_adapter: SuperAdapter,
    config: Configuration,
    folder: str | Path,
    *,
    base_name: str | None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> None:
    """Writes the base model with a sub-adapter merged into its weights; the model in memory is not changed.

    Args:
        super_adapter: Source of the weights.
        config: Sites and ranks; none gives the base model.
        folder: Absent, empty, or an earlier export, which is replaced.
        base_name: Hub id or folder of the base model, recorded in the export; `None` if it has neither.
        tokenizer: Saved with the weights.

    Raises:
        InputError: The config is not of this super-adapter, or the folder holds other files.
        StorageError: The folder could not be written; its earlier content is intact.
    """
    scales, model = super_adapter.scales(config), super_adapter.model
    with super_adapter.lifted(), export_folder(folder, origin=export_origin("merged", config, base_name)) as fresh:
        weights = model.state_dict()
        for path, (A, B) in super_adapter.tensors(config).items():
            base = weights[f"{path}.weight"]
            weights[f"{path}.weight"] = (base.to(A.dtype) + scales[path] * (B @ A)).to(base.dtype)
        with without_progress_bars():
            model.save_pretrained(fresh, state_dict=weights)
        if tokenizer is not None:
            tokenizer.save_pretrained(fresh)


def export_origin(kind: str, config: Configuration, base_name: str | None) -> dict[str, Json]:
    """Content of `adaptare.json`, which marks an export."""
    return {"schema": 1, "kind": kind, "base_model": base_name, "ranks": dict(config.ranks)}
