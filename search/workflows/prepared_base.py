"""Base models that a recipe has changed, saved in the folder of their super-adapter."""

import tempfile
from pathlib import Path

from safetensors import SafetensorError

from adaptare.devices import InputError, StorageError
from adaptare.profiler import ModelShape
from adaptare.search import load_base
from adaptare.search.progress_bars import without_progress_bars
from adaptare.search.recipes.recipe import Recipe
from adaptare.search.workflows.task import FILE as _TASK
from adaptare.search.workflows.task import Task, examples_of, save_task, texts_of

_BASE = "base"


def base_folder(task: Task, recipe: Recipe, folder: Path) -> Path:
    """Folder of the weights that the adapters of a training folder are made for.

    Raises:
        InputError: The recipe prepares the base, and the prepared one is missing.
    """
    if recipe.prepare is None:
        return Path(task.model)
    base = (folder / _BASE).resolve()
    if not base.is_dir():
        raise InputError(
            f"{str(folder)!r} lacks the base that the recipe {recipe.name!r} prepared: there is no {base}; train again"
        )
    return base


def prepare_base(task: Task, recipe: Recipe, folder: Path) -> None:
    """Prepares and saves the base of a training folder, if the recipe does so and it is not there yet.

    The task is saved too, so that no other task uses this base.

    Raises:
        InputError: The weights or examples cannot be read, or the recipe changed the shape of the model.
        StorageError: The folder cannot be written.
    """
    if recipe.prepare is None:
        return
    if (folder / _BASE).exists():
        if not (folder / _TASK).exists():
            raise InputError(f"{str(folder / _BASE)!r} was not written by adaptare; use another folder, or remove it")
        return
    texts = texts_of(task)
    model, tokenizer = load_base(task.model)
    shape = ModelShape.from_config(model.config)
    recipe.prepare(model, examples_of(task, texts, tokenizer).train[: recipe.calibration])
    if ModelShape.from_config(model.config).hash != shape.hash:
        raise InputError(f"the recipe {recipe.name!r} changed the shape of the base; its `prepare` must keep it")
    try:
        save_task(task, folder)
        with tempfile.TemporaryDirectory(dir=folder, prefix=f".{_BASE}-") as place:
            unfinished = Path(place) / _BASE
            with without_progress_bars():
                model.save_pretrained(unfinished)
            tokenizer.save_pretrained(unfinished)
            unfinished.rename(folder / _BASE)
    except (OSError, SafetensorError) as error:  # the latter if a full disk ends the writing of weights
        reason = getattr(error, "strerror", None) or error
        raise StorageError(f"the prepared base cannot be written to {str(folder)!r}: {reason}") from error
