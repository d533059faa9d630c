"""List of the registered recipes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from adaptare.devices.exit_codes import ExitCode
from adaptare.profiler.results.report import Note, Section
from adaptare.profiler.results.table import Column, Table
from adaptare.search.recipes.recipe import Recipe, all_recipes

COLUMNS: Final[tuple[Column[Recipe], ...]] = (
    Column("recipe", lambda each: each.name),
    Column("idea", lambda each: each.summary, folds=True),
    Column("needs", lambda each: each.needs, folds=True),
    Column("gives", lambda each: each.gives, folds=True),
    Column("paper", lambda each: each.paper, 1, folds=True),
)


@dataclass(frozen=True)
class RecipeList:
    """Result with the registered recipes."""

    recipes: tuple[Recipe, ...]
    exit_code: ExitCode = ExitCode.DONE

    def sections(self) -> Iterator[Section]:
        """See `Report`."""
        yield Table("Recipes", COLUMNS, self.recipes)
        yield Note(f"next: adaptare train MODEL -o FOLDER --recipe {self.recipes[0].name}")

    def to_json(self) -> dict[str, Any]:
        """See `Report`."""
        found = [
            {
                "name": each.name,
                "summary": each.summary,
                "paper": each.paper,
                "needs": each.needs,
                "gives": each.gives,
                "ranks": list(each.ranks),
                "prepares_base": each.prepare is not None,
                "scaling": {"rule": each.scaling.rule, "alpha": each.scaling.alpha},
                "step": repr(each.step),
                "algorithm": each.algorithm,
                "quantisations": list(each.quantisations),
            }
            for each in self.recipes
        ]
        return {"recipes": found}


def list_recipes() -> RecipeList:
    """The recipes of all installed packages."""
    return RecipeList(all_recipes())
