"""Base models that a recipe has changed, saved in the folder of their super-adapter."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from adaptare.core import InputError, StorageError
from adaptare.core.codec import to_json
from adaptare.core.versioned_json import read_as, write_versioned
from adaptare.profiler import ModelShape, Space
from adaptare.profiler.models import without_bars
from adaptare.search import load_base
from adaptare.search.recipes import Recipe
from adaptare.workflows.train.task import FILE as _TASK
from adaptare.workflows.train.task import Task, save_task

BASE, _ORDER = "base", "layer_order.json"


@dataclass(frozen=True)
class _LayerOrder:
    left_out_in_order: tuple[int, ...]


def with_layer_order(space: Space, base: Path) -> Space:
    """The space with the order of layers that was found when a base was prepared, if there is one.

    Raises:
        InputError: The file of the order is damaged.
    """
    file = base / _ORDER
    if not space.removal_order or not file.exists():
        return space
    otherwise = f"{file} is no order of layers; train again in another folder"
    try:
        return space.leaving_out(read_as(_LayerOrder, file, schema=1, otherwise=otherwise).left_out_in_order)
    except InputError as error:
        raise InputError(f"{otherwise}; {error}") from error


def prepare_base(task: Task, recipe: Recipe, folder: Path) -> None:
    """Prepares and saves the base of a training folder, if the recipe does so and it is not there yet.

    The task is saved too, so that no other task uses this base.

    Raises:
        InputError: The weights or examples cannot be read, or the recipe changed the shape of the model.
        StorageError: The folder cannot be written.
    """
    if recipe.prepare is None:
        return
    if (folder / BASE).exists():
        if not (folder / _TASK).exists():
            raise InputError(f"{str(folder / BASE)!r} was not written by adaptare; use another folder, or remove it")
        return
    texts = task.data.texts()
    model, tokenizer = load_base(task.model)
    shape = ModelShape.from_config(model.config)
    calibration = task.data.tokens(texts, tokenizer).train[: recipe.calibration]
    recipe.prepare(model, calibration)
    if ModelShape.from_config(model.config).hash != shape.hash:
        raise InputError(f"the recipe {recipe.name!r} changed the shape of the base; its `prepare` must keep it")
    order = recipe.layer_order(model, calibration) if recipe.layer_order else None
    try:
        save_task(task, folder)
        with tempfile.TemporaryDirectory(dir=folder, prefix=f".{BASE}-") as place:
            unfinished = Path(place) / BASE
            with without_bars():
                model.save_pretrained(unfinished)
            tokenizer.save_pretrained(unfinished)
            if order:
                write_versioned(unfinished / _ORDER, to_json(_LayerOrder(tuple(order))), schema=1)
            unfinished.rename(folder / BASE)
    except (OSError, SafetensorError) as error:  # the latter if a full disk ends the writing of weights
        reason = getattr(error, "strerror", None) or error
        raise StorageError(f"the prepared base cannot be written to {str(folder)!r}: {reason}") from error
