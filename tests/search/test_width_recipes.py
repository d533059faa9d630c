"""Recipes with widths: their spaces, sizes and starts, against the numbers of the papers."""

import inspect
from math import prod
from pathlib import Path

import numpy as np
import pytest

from adaptare.profiler import WIDTH, Configuration, ModelShape, Space
from adaptare.search.algorithms.baselines import uniform_cuts
from adaptare.search.recipes import lonas, subnet
from adaptare.search.recipes.recipe import recipe_named

SMOLLM2 = {
    "model_type": "llama",
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
}
SHAPE = ModelShape.from_mapping(SMOLLM2)


def lonas_space() -> Space:
    return lonas.RECIPE.space(SHAPE, ranks=lonas.RECIPE.ranks)


def test_lonas_has_90_variables_and_20_to_the_30_configurations() -> None:
    choices = [len(each.choices) for each in lonas_space().axes if len(each.choices) > 1]
    assert len(choices) == 90
    assert prod(choices) == 20**30


def test_lonas_starts_from_the_middle_of_every_list() -> None:
    space = lonas_space()
    config = space.decode(space.at(lonas.RECIPE.start(space)))
    assert set(config.by_layer.values()) == {1152}
    assert set(config.by_layer) == set(range(30))
    kinds = {path.rsplit(".", 1)[1] for path, _ in config.ranks}
    assert kinds == {"q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "down_proj"}
    assert set(config.by_path.values()) == {32}


@pytest.mark.parametrize(
    ("width", "parameters"), [(1344, 124_526_592), (1152, 114_573_312), (960, 104_620_032), (768, 94_666_752)]
)
def test_uniform_widths_have_the_sizes_of_the_smaller_models(width: int, parameters: int) -> None:
    sites = Configuration.of(widths=dict.fromkeys(range(30), width)).sites(SHAPE)
    assert sum(site.in_features * site.out_features for site in sites) + 49152 * 576 == parameters
    assert ModelShape.from_mapping({**SMOLLM2, "intermediate_size": width}).parameters == parameters


def test_each_uniform_width_is_a_cut_with_the_largest_adapter() -> None:
    space = lonas_space()
    narrow = {name: space.decode(space.at(points)) for name, points in uniform_cuts(space).items()}
    assert sorted(narrow) == [f"uniform width {width}" for width in (1152, 1344, 768, 960)]
    assert set(narrow["uniform width 768"].by_layer.values()) == {768}
    assert set(narrow["uniform width 768"].by_path.values()) == {32}
    assert len(narrow["uniform width 768"].ranks) == 180


@pytest.mark.parametrize("model_type", ["llama", "phi3"])
@pytest.mark.parametrize("recipe", [lonas.RECIPE, subnet.RECIPE], ids=lambda recipe: recipe.name)
def test_a_recipe_has_every_mlp_of_a_family(recipe: object, model_type: str) -> None:
    shape = ModelShape.from_mapping({**SMOLLM2, "model_type": model_type, "pad_token_id": 0})
    space = recipe.space(shape, ranks=recipe.ranks)  # type: ignore[attr-defined]
    assert sum(each.kind == WIDTH for each in space.dimensions) == 30
    assert any(site.kind == "down_proj" for site in space.sites)
    assert any("gate" in site.kind for site in space.sites)
    assert space.has_adapter(space.at(0 * space.n_choices[None])).all()


def test_merged_ranks_are_left_out_of_the_choices() -> None:
    space = lonas_space()
    only = space.at_largest_ranks
    assert only.dimensions == space.dimensions
    assert sum(len(each.choices) > 1 for each in only.axes) == 30
    codes = only.at(only.sample(5, np.random.default_rng(0)))
    assert {rank for row in codes for rank in only.decode(row).by_path.values()} == {32}


@pytest.mark.parametrize("name", ["lonas", "subnet"])
def test_a_recipe_is_registered_and_a_page(name: str) -> None:
    recipe = recipe_named(name)
    module = inspect.getmodule({"lonas": lonas, "subnet": subnet}[name])
    assert recipe is {"lonas": lonas.RECIPE, "subnet": subnet.RECIPE}[name]
    assert module is not None
    assert len(Path(str(module.__file__)).read_text(encoding="utf-8").splitlines()) <= 60
