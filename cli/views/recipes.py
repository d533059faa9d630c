from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from adaptare.core.table import Column, Note, Section, Table
from adaptare.search.recipes import Recipe

COLUMNS: Final[tuple[Column[Recipe], ...]] = (
    Column("recipe", lambda recipe: recipe.name),
    Column("idea", lambda recipe: recipe.summary, folds=True),
    Column("needs", lambda recipe: recipe.needs, folds=True),
    Column("gives", lambda recipe: recipe.gives, folds=True),
    Column("paper", lambda recipe: recipe.paper, 1, folds=True),
)


@dataclass(frozen=True)
class RecipeList:
    """Recipes of all installed packages, the default first."""

    recipes: tuple[Recipe, ...]


def sections(result: RecipeList) -> Iterator[Section]:
    """A table of the recipes, and the next command."""
    yield Table("Recipes", COLUMNS, result.recipes)
    yield Note(f"next: adaptare train MODEL -o FOLDER --recipe {result.recipes[0].name}")
