"""Super-adapters whose models leave neurons and layers out, against stock models that are cut and merged by hand."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from shallow_models import FAMILIES, LAYERS, ORDER, configured, disturbed, logits, made, same, stock

from adaptare.core import InputError
from adaptare.profiler import Configuration, ModelShape
from adaptare.profiler.workloads import grouped_space
from adaptare.search.super_adapter.file import load_super_adapter, save_super_adapter
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.training.cached_prefix import CachedPrefix
from adaptare.search.training.quality import CompletionLoss
from adaptare.search.training.record import TrainingSettings
from adaptare.search.training.step import SANDWICH
from adaptare.search.training.token_examples import TokenExample
from adaptare.search.training.train import train_super_adapter
from adaptare.workflows.search.scores import check_polishable


@pytest.mark.parametrize("family", FAMILIES)
def test_random_configurations_equal_the_stock_models_they_stand_for(family: str, ids: torch.Tensor) -> None:
    super_adapter = disturbed(family)
    space = super_adapter.space
    points = space.sample(9, np.random.default_rng(5))
    points[:, -1] = np.arange(9) % 3  # every depth
    for config in map(space.decode, [*space.at(points), super_adapter.largest]):
        with super_adapter.activated(config):
            assert same(logits(super_adapter.model, ids), logits(stock(family, super_adapter, config), ids))


def test_widths_without_adapters_cut_the_model(ids: torch.Tensor) -> None:
    model = made("biased")
    space = grouped_space("cut", [{"widths": [32, 64]}], ModelShape.from_config(model.config))
    super_adapter = SuperAdapter(model, space, seed=0)
    assert super_adapter.state() == {}
    config = Configuration.of(widths={1: 32})
    with super_adapter.activated(config):
        assert same(logits(model, ids), logits(stock("biased", super_adapter, config), ids))


@pytest.mark.parametrize("family", FAMILIES)
def test_removing_the_adapters_gives_all_layers_back(family: str, ids: torch.Tensor) -> None:
    super_adapter = disturbed(family)
    super_adapter.activate(configured(super_adapter, 3, {1: 32}))
    with super_adapter.lifted():
        assert same(logits(super_adapter.model, ids), logits(made(family), ids), 1e-6)
    assert len(super_adapter.model.model.layers) == 3
    super_adapter.remove()
    assert torch.equal(logits(super_adapter.model, ids), logits(made(family), ids))
    assert super_adapter.model.config.to_dict() == made(family).config.to_dict()


def test_a_cache_of_the_active_layers_gives_the_same_logits(ids: torch.Tensor) -> None:
    super_adapter = disturbed("qwen3")
    whole = torch.cat([ids[:1, :5].repeat(2, 1), ids[:, 5:]], dim=1)
    with super_adapter.activated(configured(super_adapter, 3)), torch.inference_mode():
        cached = CachedPrefix(super_adapter.model, whole[0, :5].tolist())
        found = cached.logits(whole, torch.ones_like(whole), torch.arange(5, whole.shape[1]))
        expected = super_adapter.model(whole).logits[:, 5:]
    assert same(found, expected)


def test_a_space_whose_largest_depth_leaves_layers_out_has_no_adapters_there(ids: torch.Tensor) -> None:
    super_adapter = disturbed("qwen3", (3, 4))
    assert {name.split(".")[2] for name in super_adapter.state()} == {"1", "2", "4", "5"}
    kept = [site for site in super_adapter.space.sites if site.layer not in ORDER[:2]]
    config = Configuration.of({site.path: 2 for site in kept}, left_out=ORDER[:2])
    with super_adapter.activated(config):
        assert same(logits(super_adapter.model, ids), logits(stock("qwen3", super_adapter, config), ids))


@pytest.mark.parametrize("family", ["phi3", "biased"])
def test_slices_outside_the_active_widths_get_no_gradient(family: str, ids: torch.Tensor) -> None:
    super_adapter = disturbed(family)
    config = Configuration.of({site.path: 4 for site in super_adapter.space.sites}, widths={1: 32})
    super_adapter.activate(config)
    super_adapter.model(ids, labels=ids).loss.backward()
    mlp = super_adapter.model.model.layers[1].mlp
    assert (mlp.down_proj.A.grad[:, 32:] == 0).all()
    assert (mlp.down_proj.A.grad[:, :32] != 0).any(dim=0).all()
    into = mlp.gate_up_proj if family == "phi3" else mlp.up_proj
    used = torch.arange(into.B.shape[0]) % 64 < 32
    assert (into.B.grad[~used] == 0).all()
    assert (into.B.grad[used] != 0).any(dim=1).all()


def test_training_learns_at_every_size_and_leaves_the_base_as_it_is(tmp_path: Path) -> None:
    super_adapter = disturbed("phi3")
    rng, space = np.random.default_rng(2), super_adapter.space
    rows = [TokenExample((int(first), 7, int(first) + 1, 9), 2) for first in rng.permutation(200)[:40]]
    smallest = 0 * space.n_choices
    smallest[: len(space.sites)] = 2
    ends = space.at(np.stack([smallest, space.highest]))
    before = CompletionLoss(super_adapter, rows)(ends)
    settings = TrainingSettings(10, 0, learning_rate=1e-2, activation_checkpointing=True)
    train_super_adapter(super_adapter, rows, settings, folder=tmp_path, step=SANDWICH)
    assert (CompletionLoss(super_adapter, rows)(ends) < before).all()
    assert len(super_adapter.model.model.layers) == LAYERS
    assert all(layer.A.grad is None for layer in super_adapter.linears.values())
    with super_adapter.lifted():
        for name, weight in made("phi3").state_dict().items():
            assert torch.equal(super_adapter.model.state_dict()[name], weight)


@pytest.mark.parametrize(
    ("column", "code", "message"),
    [
        (-1, 2, "presence of layer 2 must be .*, not 2"),
        (-1, -1, "presence of layer 2 must be .*, not -1"),
        (-7, 65, "width of layer 5 must be .*, not 65"),
        (-7, 0, "width of layer 5 must be .*, not 0"),
    ],
)
def test_a_size_outside_the_space_is_refused(column: int, code: int, message: str) -> None:
    super_adapter = disturbed("qwen3")
    codes = super_adapter.largest
    codes[column] = code
    with pytest.raises(InputError, match=message):
        super_adapter.activate(codes)
    assert (super_adapter.active == super_adapter.largest).all()


def test_layers_outside_the_order_of_the_space_are_refused() -> None:
    with pytest.raises(InputError, match="depth leaves out 3, 0 first, and the configuration leaves out 1, 2"):
        disturbed("qwen3").activate(Configuration.of(left_out=(1, 2)))


def test_winners_with_widths_are_not_polished() -> None:
    with pytest.raises(InputError, match="polish trains an adapter of the complete base"):
        check_polishable(disturbed("qwen3"))


def test_saved_widths_and_order_of_layers_are_loaded(ids: torch.Tensor, tmp_path: Path) -> None:
    super_adapter = disturbed("qwen3")
    save_super_adapter(super_adapter, tmp_path)
    loaded = load_super_adapter(tmp_path, made("qwen3"))
    assert loaded.space.axes == super_adapter.space.axes
    config = configured(super_adapter, 4, {1: 32})
    with super_adapter.activated(config), loaded.activated(config):
        assert torch.equal(logits(loaded.model, ids), logits(super_adapter.model, ids))


def with_another_place(description: dict[str, Any], axis: int, place: object) -> None:
    description["space"]["axes"][axis]["places"][0] = place


def of_an_earlier_version(description: dict[str, Any]) -> None:
    description["schema"] = 3
    description["space"] = {"name": "cut", "sites": [], "groups": [], "choices": [], "left_out_in_order": list(ORDER)}


@pytest.mark.parametrize(
    "change",
    [
        of_an_earlier_version,
        lambda description: with_another_place(description, -1, 9),  # an order of layers
        lambda description: with_another_place(description, -2, -1),  # a width
        lambda description: with_another_place(description, -2, "0"),
    ],
)
def test_a_damaged_description_is_refused(change: Callable[[dict[str, Any]], None], tmp_path: Path) -> None:
    save_super_adapter(disturbed("qwen3"), tmp_path)
    file = tmp_path / "super_adapter.json"
    description = json.loads(file.read_text())
    change(description)
    file.write_text(json.dumps(description))
    with pytest.raises(InputError, match="holds no super-adapter that this version reads"):
        load_super_adapter(tmp_path, made("qwen3"))
