"""Sub-networks with narrower MLPs, against dense models that are cut and merged by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from narrow_models import FAMILIES, WIDTHS, complete_updates, dense, disturbed, logits, made, same

from adaptare.core import InputError
from adaptare.profiler import Configuration, ModelShape
from adaptare.profiler.workloads.space_file import grouped_space
from adaptare.search.algorithms.baselines import midpoint
from adaptare.search.recipes import subnet
from adaptare.search.super_adapter.file import load_super_adapter, save_super_adapter
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.training.quality import CompletionLoss
from adaptare.search.training.record import TrainingSettings
from adaptare.search.training.step import SANDWICH, TrainingStep, UniformSampler
from adaptare.search.training.token_examples import TokenExample
from adaptare.search.training.train import train_super_adapter
from adaptare.workflows.search.scores import check_polishable

DOWN = "model.layers.{}.mlp.down_proj"


@pytest.mark.parametrize("family", FAMILIES)
def test_random_configurations_equal_the_dense_models_they_stand_for(family: str, ids: torch.Tensor) -> None:
    super_adapter = disturbed(family, torch.float64)
    space, rng = super_adapter.space, np.random.default_rng(5)
    whole = logits(super_adapter.model, ids)
    for codes in space.at(space.sample(20, rng)):
        config = space.decode(codes)
        expected = logits(
            dense(made(family, torch.float64), config.by_layer, complete_updates(super_adapter, config.by_path)), ids
        )
        with super_adapter.activated(config):
            assert same(logits(super_adapter.model, ids), expected, 1e-9)
        assert not same(whole, expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_largest_configuration_is_the_model_with_the_whole_adapter(family: str, ids: torch.Tensor) -> None:
    super_adapter = disturbed(family, torch.float64)
    ranks = super_adapter.space.decode(super_adapter.largest).by_path
    expected = logits(dense(made(family, torch.float64), {}, complete_updates(super_adapter, ranks)), ids)
    assert same(logits(super_adapter.model, ids), expected, 1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_tensors_of_a_sub_adapter_fit_the_narrow_linears(family: str, ids: torch.Tensor) -> None:
    super_adapter = disturbed(family, torch.float64)
    config = Configuration.of({site.path: 2 for site in super_adapter.space.sites}, widths={0: WIDTHS[0], 2: WIDTHS[1]})
    narrow = dense(made(family, torch.float64), config.by_layer, {})
    for path, own in super_adapter.halves(config).items():
        weight = narrow.get_submodule(path).weight
        assert (own.B @ own.A).shape == weight.shape
        weight += torch.from_numpy(own.scale * own.B @ own.A)
    with super_adapter.activated(config):
        assert same(logits(super_adapter.model, ids), logits(narrow, ids))


def test_widths_without_adapters_cut_the_model(ids: torch.Tensor) -> None:
    model = made("llama")
    shape = ModelShape.from_config(model.config)
    space = grouped_space("cut", [{"widths": WIDTHS}], shape)
    super_adapter = SuperAdapter(model, space, seed=0)
    assert super_adapter.state() == {}
    config = Configuration.of(widths={1: 48})
    with super_adapter.activated(config):
        assert same(logits(model, ids), logits(dense(made("llama"), config.by_layer, {}), ids))
    super_adapter.remove()
    assert torch.equal(logits(model, ids), logits(made("llama"), ids))


@pytest.mark.parametrize("family", FAMILIES)
def test_slices_outside_the_active_widths_get_no_gradient(family: str, ids: torch.Tensor) -> None:
    super_adapter = disturbed(family)
    config = Configuration.of({site.path: 4 for site in super_adapter.space.sites}, widths={1: 32})
    super_adapter.activate(config)
    super_adapter.model(ids, labels=ids).loss.backward()
    layer = super_adapter.model.get_submodule(DOWN.format(1))
    assert (layer.A.grad[:, 32:] == 0).all()
    assert (layer.A.grad[:, :32] != 0).any(dim=0).all()
    into = super_adapter.model.get_submodule("model.layers.1.mlp").get_submodule(
        "gate_up_proj" if family == "phi3" else "up_proj"
    )
    unused = [slice(32, 64), slice(96, 128)] if family == "phi3" else [slice(32, 64)]
    used = [slice(0, 32), slice(64, 96)] if family == "phi3" else [slice(0, 32)]
    assert all((into.B.grad[rows] == 0).all() for rows in unused)
    assert all((into.B.grad[rows] != 0).any(dim=1).all() for rows in used)


def test_saved_widths_are_loaded(tmp_path: Path, ids: torch.Tensor) -> None:
    super_adapter = disturbed("llama")
    save_super_adapter(super_adapter, tmp_path)
    loaded = load_super_adapter(tmp_path, made("llama"))
    assert loaded.space.axes == super_adapter.space.axes
    config = Configuration.of({DOWN.format(0): 4}, widths={0: 32})
    with super_adapter.activated(config), loaded.activated(config):
        assert torch.equal(logits(loaded.model, ids), logits(super_adapter.model, ids))
    assert json.loads((tmp_path / "super_adapter.json").read_text())["schema"] == 4


@pytest.mark.parametrize("width", [0, 65])
def test_an_illegal_width_is_refused_with_the_legal_ones(width: int) -> None:
    super_adapter = disturbed("llama")
    codes = super_adapter.largest
    codes[-1] = width
    before = super_adapter.active
    with pytest.raises(InputError, match=rf"width of layer 2 must be .*, not {width}"):
        super_adapter.activate(codes)
    assert (super_adapter.active == before).all()


@pytest.mark.parametrize("step", [SANDWICH, TrainingStep(UniformSampler())], ids=["sandwich", "uniform"])
def test_a_step_never_trains_widths_without_an_adapter(step: TrainingStep) -> None:
    model = made("llama")
    groups = [{"sites": "*.q_proj", "ranks": [0, 2], "tie": "all"}, {"widths": WIDTHS}]
    space = grouped_space("few", groups, ModelShape.from_config(model.config))
    for number in range(20):
        assert space.has_adapter(step.codes(space, seed=0, step=number)).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_training_recovers_what_a_cut_lost_and_leaves_the_base_as_it_is(family: str, tmp_path: Path) -> None:
    model = made(family)
    space = subnet.space(ModelShape.from_config(model.config), ranks=(4,))
    super_adapter = SuperAdapter(model, space, seed=0)
    rng = np.random.default_rng(2)
    rows = [TokenExample((int(first), 7, int(first) + 1, 9), 2) for first in rng.permutation(200)]
    middle = space.at(midpoint(space)[None])
    cut = Configuration.of(widths=space.decode(middle[0]).by_layer)
    before = CompletionLoss(super_adapter, rows[150:])(np.stack([space.encode(cut), space.base]))
    settings = TrainingSettings(30, 0, learning_rate=1e-2)
    train_super_adapter(super_adapter, rows[:150], settings, folder=tmp_path, step=subnet.RECIPE.step)
    after = CompletionLoss(super_adapter, rows[150:])
    assert after(middle)[0] < before.min()
    assert set(cut.by_layer.values()) == {48}
    with super_adapter.lifted():
        for name, weight in made(family).state_dict().items():
            assert torch.equal(model.state_dict()[name], weight)


def test_a_space_of_widths_alone_cannot_be_trained(tmp_path: Path) -> None:
    model = made("llama")
    space = grouped_space("cut", [{"widths": WIDTHS}], ModelShape.from_config(model.config))
    with pytest.raises(InputError, match="draws no adapter from the space 'cut'; give it ranks above 0"):
        train_super_adapter(
            SuperAdapter(model, space, seed=0), [TokenExample((1, 2), 1)], TrainingSettings(1, 0), folder=tmp_path
        )


def test_winners_with_widths_are_not_polished() -> None:
    with pytest.raises(InputError, match="polish trains an adapter of the complete base"):
        check_polishable(disturbed(next(iter(FAMILIES))))


@pytest.mark.parametrize("layers", [[0, 9], [-1, 1], ["0", 1]])
def test_damaged_widths_are_refused(tmp_path: Path, layers: list[object]) -> None:
    family = next(iter(FAMILIES))
    save_super_adapter(disturbed(family), tmp_path)
    file = tmp_path / "super_adapter.json"
    description = json.loads(file.read_text())
    description["space"]["axes"][-1]["places"] = layers
    file.write_text(json.dumps(description))
    with pytest.raises(InputError, match="holds no super-adapter that this version reads"):
        load_super_adapter(tmp_path, made(family))
