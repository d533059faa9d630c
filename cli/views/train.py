from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from adaptare.core.table import Column, Note, Section, Table
from adaptare.views import command_line
from adaptare.views.accuracies import accuracy_table
from adaptare.workflows.train.result import TrainResult

if TYPE_CHECKING:  # imports torch, which a report does without
    from adaptare.search.recipes import Recipe

RECIPES: Final[tuple[Column["Recipe"], ...]] = (
    Column("recipe", lambda recipe: recipe.name),
    Column("idea", lambda recipe: recipe.summary, folds=True),
    Column("needs", lambda recipe: recipe.needs, folds=True),
    Column("gives", lambda recipe: recipe.gives, folds=True),
    Column("paper", lambda recipe: recipe.paper, 1, folds=True),
)


def sections(result: TrainResult) -> Iterator[Section]:
    """Held-out losses, accuracies on questions if there are any, and the next command."""
    change = result.loss_difference
    ends = change.ends(lambda loss: f"{loss:+.3f}")
    yield (
        f"validation loss {result.base_loss:.3f} without adapter, {result.start_loss:.3f} with the recipe's choice, "
        f"{result.full_loss:.3f} with the largest of every choice: a change of {change.middle:+.3f}, 95 % {ends}"
    )
    if result.constant_loss is not None:
        yield f"frequencies of tokens alone, without any prompt, have a validation loss of {result.constant_loss:.3f}"
    if result.accuracies:
        yield accuracy_table(result.accuracies, "validation")
    budget = "decode=-15%" if result.cuts_base else "overhead=5%"
    following = command_line("search", result.folder, "--predictor", "PREDICTOR", "--budget", budget)
    yield f"written: {result.folder}; next: {following}"


def recipe_sections(recipes: "Mapping[str, Sequence[Recipe]]") -> Iterator[Section]:
    """A table of the recipes, and the next command."""
    yield Table("Recipes", RECIPES, recipes["recipes"])
    yield Note(f"next: adaptare train MODEL -o FOLDER --recipe {recipes['recipes'][0].name}")
