"""Base, examples and super-adapter in the folder of a training, and the base that a recipe changes."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from adaptare.core import InputError, StorageError
from adaptare.core.codec import from_json
from adaptare.core.versioned_json import read_versioned, write_versioned
from adaptare.profiler import ModelShape, Space
from adaptare.profiler.models import published_name, without_bars
from adaptare.search import Origin, SuperAdapter, load_base, load_super_adapter
from adaptare.search.recipes import Recipe, recipe_named
from adaptare.search.super_adapter import load_rounded
from adaptare.search.training import TokenSplit, check_examples
from adaptare.workflows.train.task import FILE as _TASK
from adaptare.workflows.train.task import Task, load_task, save_task

BASE, _ORDER, _REMOVED = "base", "layer_order.json", "left_out_in_order"


@dataclass(frozen=True)
class Adaptation:
    """Loaded inputs of training.

    Args:
        base: Folder of the base's weights, before any rounding: the model's, or one that the recipe prepared.
    """

    task: Task
    recipe: Recipe
    base: Path
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    examples: TokenSplit

    @property
    def base_name(self) -> str | None:
        """Name by which others load the base; of a prepared base, its folder."""
        if self.recipe.prepare is not None:
            return str(self.base)
        return published_name(self.task.model_name, str(self.task.model))

    @property
    def origin(self) -> Origin:
        """Source of the base."""
        prepared = self.recipe.prepare is not None
        return Origin(self.base, self.base_name, self.tokenizer, self.task.quantisation, prepared=prepared)


def load_adaptation(task: Task, folder: Path) -> Adaptation:
    """Loads weights, tokenizer and examples of a task; the base that its recipe prepares is in the folder."""
    recipe = recipe_named(task.recipe)
    texts, base = task.data.texts(), task.model  # errors come before the weights are loaded
    if recipe.prepare is not None:
        base = (folder / BASE).resolve()
        if not base.is_dir():
            raise InputError(
                f"{str(folder)!r} lacks the base that the recipe {recipe.name!r} prepared: there is no {base}; "
                "train again"
            )
    model, tokenizer = load_rounded(base, task.quantisation, masters=recipe.layer.on_grid)
    return Adaptation(task, recipe, base, model, tokenizer, task.data.tokens(texts, tokenizer))


def reload_adaptation(folder: Path) -> tuple[Adaptation, SuperAdapter]:
    """Loads the folder of a training. Raises `InputError` if its examples have changed since."""
    adaptation = load_adaptation(load_task(folder), folder)
    check_examples(folder, adaptation.examples.train)
    return adaptation, load_super_adapter(folder, adaptation.model, layer=adaptation.recipe.layer)


def with_layer_order(space: Space, base: Path) -> Space:
    """The space with the order of layers that was found when a base was prepared, if there is one.

    Raises:
        InputError: The file of the order is damaged.
    """
    file = base / _ORDER
    if not space.removal_order or not file.exists():
        return space
    otherwise = f"{file} is no order of layers; train again in another folder"
    content = read_versioned(file, schema=1, otherwise=otherwise)
    try:
        return space.leaving_out(from_json(tuple[int, ...], content.get(_REMOVED), where=_REMOVED))
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
                write_versioned(unfinished / _ORDER, {_REMOVED: list(order)}, schema=1)
            unfinished.rename(folder / BASE)
    except (OSError, SafetensorError) as error:  # the latter if a full disk ends the writing of weights
        reason = getattr(error, "strerror", None) or error
        raise StorageError(f"the prepared base cannot be written to {str(folder)!r}: {reason}") from error
