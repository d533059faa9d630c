from adaptare.arguments import JsonOption
from adaptare.console import Console, command


@command
def recipes(as_json: JsonOption = False) -> int:
    """Recipes of super-adapters for `adaptare train --recipe`: the idea and its paper, needs, and result."""
    from adaptare.search.recipes import all_recipes
    from adaptare.views import recipes as view

    return Console(as_json=as_json).show(view.RecipeList(all_recipes()), view)
