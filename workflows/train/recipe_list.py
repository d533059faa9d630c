"""List of the registered recipes."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from adaptare.core.exit_codes import ExitCode
from adaptare.core.table import Column, Note, Section, Table
from adaptare.search.recipes.recipe import Recipe, all_recipes

COLUMNS: Final[tuple[Column[Recipe], ...]] = (
    Column("recipe", lambda recipe: recipe.name),
    Column("idea", lambda recipe: recipe.summary, folds=True),
    Column("needs", lambda recipe: recipe.needs, folds=True),
    Column("gives", lambda recipe: recipe.gives, folds=True),
    Column("paper", lambda recipe: recipe.paper, 1, folds=True),
)


@dataclass(frozen=True)
class RecipeList:
    """Recipes of all installed packages."""

    recipes: tuple[Recipe, ...] = field(default_factory=all_recipes)
    exit_code: ExitCode = ExitCode.DONE

    def sections(self) -> Iterator[Section]:
        """See `Report`."""
        yield Table("Recipes", COLUMNS, self.recipes)
        yield Note(f"next: adaptare train MODEL -o FOLDER --recipe {self.recipes[0].name}")

    def to_json(self) -> dict[str, Any]:
        """See `Report`."""
        rows = [
            {
                "name": recipe.name,
                "summary": recipe.summary,
                "paper": recipe.paper,
                "needs": recipe.needs,
                "gives": recipe.gives,
                "ranks": list(recipe.ranks),
                "prepares_base": recipe.prepare is not None,
                "scaling": {"rule": recipe.scaling.rule, "alpha": recipe.scaling.alpha},
                "step": repr(recipe.step),
                "algorithm": recipe.algorithm,
                "quantisations": list(recipe.quantisations),
            }
            for recipe in self.recipes
        ]
        return {"recipes": rows}
