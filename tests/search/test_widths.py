"""Sub-networks with narrower MLPs, against dense models that are cut and merged by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from narrow_models import FAMILIES, WIDTHS, complete_updates, dense, disturbed, logits, made, same, wide_space

from adaptare.devices import InputError
from adaptare.profiler import Configuration, ModelShape
from adaptare.profiler.workloads.space import grouped_space
from adaptare.search.super_adapter.file import load_super_adapter, save_super_adapter
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.training.samplers import UniformSampler
from adaptare.search.training.step import SANDWICH, TrainingStep

DOWN, QUERY = "model.layers.{}.mlp.down_proj", "model.layers.{}.self_attn.q"


@pytest.mark.parametrize("family", FAMILIES)
def test_random_configurations_equal_the_dense_models_they_stand_for(family: str, ids: torch.Tensor) -> None:
    super_adapter = disturbed(family)
    space, rng = super_adapter.space, np.random.default_rng(5)
    whole = logits(super_adapter.model, ids)
    for codes in space.expand(space.sample(20, rng)):
        config = space.decode(codes)
        expected = logits(dense(made(family), config.by_layer, complete_updates(super_adapter, config.by_path)), ids)
        with super_adapter.activated(config):
            assert same(logits(super_adapter.model, ids), expected)
        assert not same(whole, expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_largest_configuration_is_the_model_with_the_whole_adapter(family: str, ids: torch.Tensor) -> None:
    super_adapter = disturbed(family)
    ranks = super_adapter.space.decode(super_adapter.largest).by_path
    expected = logits(dense(made(family), {}, complete_updates(super_adapter, ranks)), ids)
    assert same(logits(super_adapter.model, ids), expected, 1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_tensors_of_a_sub_adapter_fit_the_narrow_linears(family: str, ids: torch.Tensor) -> None:
    super_adapter = disturbed(family)
    config = Configuration.of({site.path: 2 for site in super_adapter.space.sites}, widths={0: WIDTHS[0], 2: WIDTHS[1]})
    narrow = dense(made(family), config.by_layer, {})
    scales = super_adapter.scales(config)
    for path, (A, B) in super_adapter.tensors(config).items():
        weight = narrow.get_submodule(path).weight
        assert (B @ A).shape == weight.shape
        weight += scales[path] * B @ A
    with super_adapter.activated(config):
        assert same(logits(super_adapter.model, ids), logits(narrow, ids))


def test_widths_without_adapters_cut_the_model(ids: torch.Tensor) -> None:
    model = made("llama")
    shape = ModelShape.from_config(model.config)
    space = grouped_space("cut", [{"widths": WIDTHS}], shape)
    super_adapter = SuperAdapter(model, space, seed=0)
    assert (super_adapter.parameters, super_adapter.state()) == (0, {})
    config = Configuration(widths=((1, 48),))
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
    assert (loaded.space.columns, loaded.space.dimensions) == (
        super_adapter.space.columns,
        super_adapter.space.dimensions,
    )
    config = Configuration.of({DOWN.format(0): 4}, widths={0: 32})
    with super_adapter.activated(config), loaded.activated(config):
        assert torch.equal(logits(loaded.model, ids), logits(super_adapter.model, ids))
    assert json.loads((tmp_path / "super_adapter.json").read_text())["schema"] == 2


def test_other_widths_than_the_saved_are_refused(tmp_path: Path) -> None:
    save_super_adapter(disturbed("llama"), tmp_path)
    model = made("llama")
    with pytest.raises(InputError, match=r"24 sites and widths in 24 groups, ranks \[0, 2, 4\], widths \[32, 48, 64\]"):
        load_super_adapter(tmp_path, model, space=wide_space(model, [16, 64]))


@pytest.mark.parametrize("width", [0, 65])
def test_an_illegal_width_is_refused_with_the_legal_ones(width: int) -> None:
    super_adapter = disturbed("llama")
    codes = super_adapter.largest
    codes[-1] = width
    before = super_adapter.active
    with pytest.raises(InputError, match=rf"layer 2 must be 1 to 64, .* the choices 32, 48, 64; not {width}"):
        super_adapter.activate(codes)
    assert (super_adapter.active == before).all()


@pytest.mark.parametrize("step", [SANDWICH, TrainingStep(UniformSampler())], ids=["sandwich", "uniform"])
def test_a_step_never_trains_widths_without_an_adapter(step: TrainingStep) -> None:
    model = made("llama")
    groups = [{"sites": "*.q_proj", "ranks": [0, 2], "tie": "all"}, {"widths": WIDTHS}]
    space = grouped_space("few", groups, ModelShape.from_config(model.config))
    for number in range(20):
        assert space.has_adapter(step.codes(space, seed=0, step=number)).all()
