"""Export of a sub-adapter to files that unmodified PEFT or transformers load."""

from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from adaptare.core import InputError
from adaptare.profiler import Configuration, ModelShape
from adaptare.profiler.programs.torch.cut import narrowed, shallow
from adaptare.profiler.workloads.adapter import peft_arguments
from adaptare.profiler.workloads.shape import in_layer, layer_of
from adaptare.search.export.folder import export_folder, origin_of
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
        InputError: The config is empty, cuts the base or is not of this super-adapter; its sub-adapters exist merged
            only; a weight is NaN or infinite; or the folder holds other files.
        StorageError: The folder could not be written; its earlier content is intact.
    """
    check_complete(config)
    arguments = peft_arguments(config, super_adapter.scales(config))
    with export_folder(folder, origin=origin_of("peft", config, base_name)) as fresh:
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
        config: Ranks, one width for all layers, which becomes the `intermediate_size`, and layers left out, by which
            `num_hidden_layers` is smaller; none of these gives the base model.
        folder: Absent, empty, or an earlier export, which is replaced.
        base_name: Hub id or folder of the base model, recorded in the export; `None` if it has neither.
        tokenizer: Saved with the weights.

    Raises:
        InputError: The config is not of this super-adapter or has several widths; merging it would fill the zeros of a
            sparse base; or the folder holds other files.
        StorageError: The folder could not be written; its earlier content is intact.
    """
    merged, size = super_adapter.merged(config), _one_size(config, super_adapter.shape)
    number = {layer: number for number, layer in enumerate(config.kept(super_adapter.shape.layers))}
    with super_adapter.lifted(), export_folder(folder, origin=origin_of("merged", config, base_name)) as fresh:
        model: PreTrainedModel = shallow(narrowed(super_adapter.model, config.by_layer), config.left_out)
        model.config.intermediate_size = size
        own = {in_layer(path, number[layer_of(path)]): weight for path, weight in merged.items()}
        weights = {**model.state_dict(), **{f"{path}.weight": weight for path, weight in own.items()}}
        with without_progress_bars():
            model.save_pretrained(fresh, state_dict=weights)
        if tokenizer is not None:
            tokenizer.save_pretrained(fresh)


def check_complete(config: Configuration) -> None:
    """Raises `InputError` for narrower or fewer layers, whose adapter does not fit the base that others have."""
    if config.cuts_base:
        cut = "narrower layers" if config.widths else "a model of fewer layers"
        raise InputError(
            f"an adapter for PEFT goes onto the complete base, and this one belongs to {cut}; export the "
            "model: --to merged, or --to onnx"
        )


def _one_size(config: Configuration, shape: ModelShape) -> int:
    """Intermediate size of every layer. Raises `InputError` if they differ."""
    sizes = {config.by_layer.get(layer, shape.intermediate) for layer in config.kept(shape.layers)}
    if len(sizes) > 1:
        raise InputError(
            f"a transformers model has one intermediate_size, and this one has {', '.join(map(str, sorted(sizes)))}; "
            "export it for ONNX Runtime with --to onnx, or choose a winner of one width"
        )
    return sizes.pop()
