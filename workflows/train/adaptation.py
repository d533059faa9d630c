"""Base model with its examples and its super-adapter, loaded from the folder of a training."""

from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from adaptare.core import InputError
from adaptare.profiler.models import published_name
from adaptare.search import Origin, SuperAdapter, load_super_adapter
from adaptare.search.recipes import Recipe, recipe_named
from adaptare.search.super_adapter import load_rounded
from adaptare.search.training import TokenSplit, check_examples
from adaptare.workflows.train.prepared_base import BASE
from adaptare.workflows.train.task import Task, load_task


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
