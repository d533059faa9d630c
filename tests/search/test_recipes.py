from importlib.metadata import EntryPoint

import pytest

from adaptare.core import InputError
from adaptare.profiler import ModelShape
from adaptare.search.algorithms.algorithm import STAGED, algorithm_named
from adaptare.search.recipes.recipe import DEFAULT_RECIPE, RECIPES, Recipe, all_recipes, recipe_named

SHAPE = ModelShape("llama", 2, 64, 4, 2, 16, 128, 256, "{}")


def register(monkeypatch: pytest.MonkeyPatch, name: str, target: str) -> None:
    entry = EntryPoint(name, target, RECIPES)
    monkeypatch.setattr("adaptare.core.extensions.extensions", lambda group: {name: entry})


def test_the_default_is_listed_first() -> None:
    assert all_recipes()[0].name == DEFAULT_RECIPE


@pytest.mark.parametrize("recipe", all_recipes(), ids=lambda recipe: recipe.name)
def test_a_recipe_is_whole(recipe: Recipe) -> None:
    assert all((recipe.summary, recipe.paper, recipe.needs, recipe.gives))
    space = recipe.space(SHAPE, ranks=recipe.ranks)
    points = recipe.start(space)
    assert points.shape == (space.n_axes,)
    assert ((points >= 0) & (points < space.n_choices)).all()
    assert recipe.algorithm == STAGED or callable(algorithm_named(recipe.algorithm))


def test_an_unknown_recipe_is_answered_with_the_known() -> None:
    with pytest.raises(InputError, match=r"unknown recipe 'cake'; installed packages register .*placement"):
        recipe_named("cake")


@pytest.mark.parametrize("target", ["json:dumps", "adaptare.search.recipes.placement:RECIPE"])
def test_an_entry_point_of_something_else_is_refused(monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    register(monkeypatch, "cake", target)
    with pytest.raises(InputError, match=r"must be of Recipe with name='cake', not .*; reinstall or remove"):
        recipe_named("cake")


@pytest.mark.parametrize("target", ["no_such_module:RECIPE", "json:RECIPE"])
def test_a_broken_entry_point_is_named(monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    register(monkeypatch, "cake", target)
    with pytest.raises(InputError, match=r"the recipe 'cake' cannot be loaded .*; reinstall or remove"):
        recipe_named("cake")
