"""Each recipe against the numbers of its paper, and what its preparation does to a base."""

from copy import deepcopy
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, Phi3Config, PreTrainedModel

from adaptare.core import InputError
from adaptare.core.quantisation import QUANTISATIONS
from adaptare.profiler import WIDTH, Configuration, ModelShape, named_space
from adaptare.profiler.workloads import LAYER
from adaptare.search.algorithms.algorithm import STAGED
from adaptare.search.recipes.recipe import Recipe, all_recipes, recipe_named
from adaptare.search.super_adapter.base_model import decoder_linears, keep_masters, round_base
from adaptare.search.super_adapter.elastic import ElasticLinear
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.super_adapter.quantised import (
    MaskedElasticLinear,
    QuantisedElasticLinear,
    int4_codes,
    int4_scales,
    int4_values,
)
from adaptare.search.training.importance_orders import activation_scores, layer_order
from adaptare.search.training.pruning import prune_by_wanda
from adaptare.search.training.step import DEFAULT_STEP, SPREAD, Distillation, TrainingStep, UniformSampler
from adaptare.search.training.token_examples import TokenExample

UNIFORM = TrainingStep(UniformSampler())
# 0.5 CE + 2 KL at a temperature of 0.9, arXiv 2410.06479.
DISTILLED = TrainingStep(SPREAD, draws=2, ends=True, distil=Distillation(0.5, 2.0, 0.9))
EVERY = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Paper:
    """What a recipe must have. `choices` are those of the ranks, by kind of linear."""

    choices: dict[str, tuple[int, ...]]
    factor: float
    step: TrainingStep
    algorithm: str
    layer: type[ElasticLinear] = ElasticLinear
    quantisations: tuple[str, ...] = tuple(QUANTISATIONS)
    prepared: str = ""
    widths: tuple[int, ...] = ()


SHEARS = dict.fromkeys(("q_proj", "k_proj", "v_proj", "up_proj", "down_proj"), (16, 24, 32))
SQFT = dict.fromkeys(("q_proj", "k_proj", "v_proj"), (16, 20, 24, 28, 32)) | dict.fromkeys(
    ("up_proj", "down_proj"), (32,)
)
LONAS = dict.fromkeys(("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"), (28, 32)) | {"down_proj": (32,)}
EIGHTHS = (128, 160, 192, 224, 256)
SPARSE = {"step": UNIFORM, "algorithm": "nsga2", "prepared": "pruned"}
PAPERS = {
    "placement": Paper(dict.fromkeys(EVERY, (0, 2, 4, 8, 16)), 2.0, DEFAULT_STEP, STAGED),
    "lonas": Paper(LONAS, 2.0, UNIFORM, "nsga2", widths=EIGHTHS),
    "subnet": Paper(dict.fromkeys(EVERY, (32,)), 1.0, DISTILLED, STAGED, prepared="sorted", widths=EIGHTHS),
    "shears": Paper(SHEARS, 2.0, UNIFORM, "hill-climbing", prepared="pruned"),
    "sqft-sparse": Paper(SQFT, 2.0, quantisations=("none",), **SPARSE),
    "sqft": Paper(SQFT, 2.0, quantisations=("int4",), **SPARSE),
    "sqft-sparsepeft": Paper(SQFT, 2.0, layer=MaskedElasticLinear, quantisations=("none",), **SPARSE),
    "sqft-qa-sparsepeft": Paper(SQFT, 2.0, layer=QuantisedElasticLinear, quantisations=("int4",), **SPARSE),
}


@pytest.fixture
def model() -> PreTrainedModel:
    sizes = {"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LlamaConfig(**sizes, vocab_size=260, num_hidden_layers=2, initializer_range=0.2)
        return LlamaForCausalLM(config).requires_grad_(False).eval()


@pytest.fixture
def calibration() -> list[TokenExample]:
    rng = np.random.default_rng(0)
    return [TokenExample(tuple(map(int, rng.integers(0, 260, size=16))), 3) for _ in range(32)]


def test_every_recipe_has_its_paper() -> None:
    assert set(PAPERS) == {recipe.name for recipe in all_recipes()}


@pytest.mark.parametrize("recipe", all_recipes(), ids=lambda recipe: recipe.name)
def test_a_recipe_follows_its_paper(recipe: Recipe, model: PreTrainedModel) -> None:
    paper, space = PAPERS[recipe.name], recipe.space(ModelShape.from_config(model.config), ranks=recipe.ranks)
    choices: dict[str, set[tuple[int, ...]]] = {}
    for axis in space.axes:
        for each in axis.dimensions:
            kind = axis.kind.key if axis.kind.cuts else str(each.place).rpartition(".")[2]
            choices.setdefault(kind, set()).add(axis.choices)
    widths = {WIDTH.key: {paper.widths}} if paper.widths else {}
    assert choices == {kind: {ranks} for kind, ranks in paper.choices.items()} | widths
    assert LAYER not in space.kinds
    assert recipe.alpha / max(recipe.ranks) == paper.factor
    assert (recipe.step, recipe.algorithm, recipe.layer) == (paper.step, paper.algorithm, paper.layer)
    assert recipe.quantisations == paper.quantisations
    assert bool(recipe.prepare) == bool(paper.prepared)
    assert recipe.layer_order is (layer_order if recipe.name == "subnet" else None)
    assert recipe.start(space).tolist() == [n // 2 for n in space.n_choices]


def test_lonas_has_90_variables_and_20_to_the_30_configurations() -> None:
    """Of a Llama of 30 layers; its middle has three quarters of the neurons of each layer."""
    shape, recipe = ModelShape("llama", 30, 576, 9, 3, 64, 1536, 49152, "{}"), recipe_named("lonas")
    space = recipe.space(shape, ranks=recipe.ranks)
    choices = [len(axis.choices) for axis in space.axes if len(axis.choices) > 1]
    assert (len(choices), prod(choices)) == (90, 20**30)
    middle = space.decode(space.at(recipe.start(space)))
    assert middle.by_layer == dict.fromkeys(range(30), 1152)
    assert set(middle.by_path.values()) == {32}
    sites = Configuration.of(widths=middle.by_layer).sites(shape)
    assert sum(site.in_features * site.out_features for site in sites) + 49152 * 576 == 114_573_312


@pytest.mark.parametrize("name", ["lonas", "subnet"])
def test_recipes_with_widths_have_the_fused_mlps_of_other_families(name: str) -> None:
    shape, recipe = ModelShape.from_config(Phi3Config(num_hidden_layers=2, pad_token_id=0)), recipe_named(name)
    space = recipe.space(shape, ranks=recipe.ranks)
    assert sum(each.kind == WIDTH for each in space.dimensions) == 2
    assert {"gate_up_proj", "down_proj"} <= {site.kind for site in space.sites}
    assert space.has_adapter(space.at(0 * space.n_choices[None])).all()


def test_a_space_of_shears_has_the_gate_in_the_group_of_the_up_projection(model: PreTrainedModel) -> None:
    space = named_space("shears-gate", ModelShape.from_config(model.config), ranks=(16, 32))
    groups = [{str(each.place).rpartition(".")[2] for each in axis.dimensions} for axis in space.axes]
    expected = [{"q_proj", "k_proj", "v_proj"}, {"up_proj", "gate_proj"}, {"down_proj"}]
    assert groups == [group for group in expected for _ in range(model.config.num_hidden_layers)]
    assert {axis.choices for axis in space.axes} == {(16, 32)}


@pytest.mark.parametrize("recipe", [each for each in all_recipes() if each.prepare], ids=lambda recipe: recipe.name)
def test_a_preparation_follows_its_paper(
    recipe: Recipe, model: PreTrainedModel, calibration: list[TokenExample]
) -> None:
    assert recipe.prepare
    before = deepcopy(model)
    recipe.prepare(model, calibration)
    ids = torch.arange(24)[None]
    with torch.no_grad():
        apart = (model(ids).logits - before(ids).logits).abs().max()
    if PAPERS[recipe.name].prepared == "sorted":
        assert apart < 1e-3
        unsorted = activation_scores(before, calibration)
        for layer, scores in activation_scores(model, calibration).items():
            assert (scores.diff() <= 1e-6).all()
            assert not (unsorted[layer].diff() <= 1e-6).all()
            torch.testing.assert_close(scores, unsorted[layer].sort(descending=True).values, rtol=1e-4, atol=1e-6)
        return
    assert apart > 1e-2
    prune_by_wanda(before, calibration, sparsity=0.5)
    expected = decoder_linears(before)
    for path, linear in decoder_linears(model).items():
        assert torch.equal(linear.weight, expected[path].weight)
        assert ((linear.weight == 0).sum(dim=1) == linear.in_features // 2).all()


def test_another_sparsity_leaves_that_share_of_each_row(
    model: PreTrainedModel, calibration: list[TokenExample]
) -> None:
    recipe = recipe_named("sqft").at_sparsity(0.3)
    assert recipe.prepare
    recipe.prepare(model, calibration)
    for linear in decoder_linears(model).values():
        assert ((linear.weight == 0).sum(dim=1) == int(0.3 * linear.in_features)).all()
    assert recipe_named("sqft").at_sparsity(None) is recipe_named("sqft")


def test_a_sparsity_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(InputError, match=r"'lonas' keeps its base dense.* take one of shears, sqft"):
        recipe_named("lonas").at_sparsity(0.4)
    for share in (0.2, 1.0, float("nan")):
        with pytest.raises(InputError, match="sparsity must be from 25% to below 100 %"):
            recipe_named("shears").at_sparsity(share)


def test_quantisation_aware_updates_are_added_to_the_weights_before_rounding(model: PreTrainedModel) -> None:
    recipe = next(each for each in all_recipes() if each.name == "sqft-qa-sparsepeft")
    masters = {path: linear.weight.clone() for path, linear in decoder_linears(model).items()}
    keep_masters(model)
    round_base(model, "int4")
    assert not any(name.endswith("master") for name in model.state_dict())
    space = recipe.space(ModelShape.from_config(model.config), ranks=(4,))
    super_adapter = SuperAdapter(model, space, alpha=1.0, seed=0, layer=recipe.layer)
    for path, layer in super_adapter.linears.items():
        nn.init.normal_(layer.B, std=0.02, generator=torch.Generator().manual_seed(0))
        master, scales = masters[path], int4_scales(masters[path])
        update = 0.25 * (layer.B @ layer.A).detach()

        def rounded(weight: torch.Tensor, scales: torch.Tensor = scales) -> torch.Tensor:
            return int4_values(int4_codes(weight, scales), scales)

        found: Any = layer
        assert torch.equal(found.adapted(4).detach(), rounded(master + update))
        assert not torch.equal(rounded(master + update), rounded(layer.base.weight + update))
