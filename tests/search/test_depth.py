"""Super-adapters whose models leave layers out, against stock models with these layers deleted."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exports import exported
from narrow_models import complete_updates, logits, same
from shallow_models import CONFIGS, LAYERS, deleted, made
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from adaptare.core import InputError
from adaptare.profiler import Configuration, ModelShape, Space
from adaptare.profiler.programs.onnx.quantise import rounded_weights
from adaptare.profiler.workloads.space_file import grouped_space
from adaptare.search.algorithms.baselines import uniform_cuts
from adaptare.search.super_adapter.file import load_super_adapter, save_super_adapter
from adaptare.search.super_adapter.merging import requantised
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.training.cached_prefix import CachedPrefix
from adaptare.search.training.quality import CompletionLoss
from adaptare.search.training.record import TrainingSettings
from adaptare.search.training.step import SANDWICH
from adaptare.search.training.token_examples import TokenExample
from adaptare.search.training.train import train_super_adapter

ORDER = (3, 0, 4, 1, 5, 2)
FAMILIES = tuple(CONFIGS)
Folder = Callable[[str, PreTrainedTokenizerBase], Path]


def deep_space(model: PreTrainedModel, depths: tuple[int, ...] = (3, 4, LAYERS)) -> Space:
    """A rank for every site, a width for each layer, and a depth."""
    groups = [{"sites": "*", "ranks": [0, 2, 4], "tie": "none"}, {"widths": [32, 64]}, {"depth": list(depths)}]
    return grouped_space("deep", groups, ModelShape.from_config(model.config)).leaving_out(ORDER)


def disturbed(family: str, depths: tuple[int, ...] = (3, 4, LAYERS)) -> SuperAdapter:
    """A super-adapter with random weights everywhere, as if it had been trained."""
    model = made(family)
    super_adapter = SuperAdapter(model, deep_space(model, depths), seed=0)
    generator = torch.Generator().manual_seed(1)
    for tensor in super_adapter.state().values():
        tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator))
    return super_adapter


def stock(family: str, super_adapter: SuperAdapter, config: Configuration) -> PreTrainedModel:
    """The model that a configuration stands for: merged and cut by hand, and without its layers."""
    model = made(family)
    for path, update in complete_updates(super_adapter, config.by_path).items():
        model.get_submodule(path).weight += update
    for layer, width in config.by_layer.items():
        mlp = model.model.layers[layer].mlp
        for linear in (mlp.gate_proj, mlp.up_proj):
            linear.weight[width:] = 0
        mlp.down_proj.weight[:, width:] = 0
    return deleted(model, config.left_out)


def configured(super_adapter: SuperAdapter, depth: int, width: int = 64) -> Configuration:
    """Ranks 0, 2 and 4 by turns, in a model of this depth."""
    space = super_adapter.space
    ranks = {site.path: 2 * (number % 3) for number, site in enumerate(space.sites)}
    widths = dict.fromkeys(range(LAYERS), width) if width < 64 else {}
    return Configuration.of(ranks, widths=widths, left_out=space.removal_order[: LAYERS - depth])


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Folders of the families' models, and next to them a cache of their ONNX exports."""
    place = tmp_path_factory.mktemp("bases")

    def folder(family: str, tokenizer: PreTrainedTokenizerBase) -> Path:
        if not (place / family).exists():
            made(family).save_pretrained(place / family)
            tokenizer.save_pretrained(place / family)
        return place / family

    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_random_configurations_equal_the_stock_models_they_stand_for(family: str, ids: torch.Tensor) -> None:
    super_adapter = disturbed(family)
    space = super_adapter.space
    points = space.sample(20, np.random.default_rng(5))
    points[:, -1] = np.arange(20) % 3  # every depth
    for config in map(space.decode, space.at(points)):
        with super_adapter.activated(config):
            assert same(logits(super_adapter.model, ids), logits(stock(family, super_adapter, config), ids))


@pytest.mark.parametrize("family", FAMILIES)
def test_removing_the_adapters_gives_all_layers_back(family: str, ids: torch.Tensor) -> None:
    super_adapter = disturbed(family)
    super_adapter.activate(configured(super_adapter, 3))
    with super_adapter.lifted():
        assert same(logits(super_adapter.model, ids), logits(made(family), ids), 1e-6)
    assert len(super_adapter.model.model.layers) == 3
    super_adapter.remove()
    assert torch.equal(logits(super_adapter.model, ids), logits(made(family), ids))
    assert super_adapter.model.config.to_dict() == made(family).config.to_dict()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_cache_of_the_active_layers_gives_the_same_logits(family: str, ids: torch.Tensor) -> None:
    super_adapter = disturbed(family)
    whole = torch.cat([ids[:1, :5].repeat(2, 1), ids[:, 5:]], dim=1)
    with super_adapter.activated(configured(super_adapter, 3)), torch.inference_mode():
        cached = CachedPrefix(super_adapter.model, whole[0, :5].tolist())
        found = cached.logits(whole, torch.ones_like(whole), torch.arange(5, whole.shape[1]))
        expected = super_adapter.model(whole).logits[:, 5:]
    assert same(found, expected)


def test_a_space_whose_largest_depth_leaves_layers_out_has_no_adapters_there(ids: torch.Tensor) -> None:
    super_adapter = disturbed("llama", (3, 4))
    assert {name.split(".")[2] for name in super_adapter.state()} == {"1", "2", "4", "5"}
    config = configured(super_adapter, 4)
    with super_adapter.activated(config):
        assert same(logits(super_adapter.model, ids), logits(stock("llama", super_adapter, config), ids))


@pytest.mark.parametrize("presence", [-1, 2])
def test_a_layer_is_there_or_not(presence: int) -> None:
    super_adapter = disturbed("llama")
    codes = super_adapter.largest
    codes[-1] = presence
    with pytest.raises(InputError, match=f"presence of layer 2 must be .*, not {presence}"):
        super_adapter.activate(codes)
    assert (super_adapter.active == super_adapter.largest).all()


def test_layers_outside_the_order_of_the_space_are_refused() -> None:
    with pytest.raises(InputError, match="depth leaves out 3, 0 first, and the configuration leaves out 1, 2"):
        disturbed("llama").activate(Configuration.of(left_out=(1, 2)))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_depth_is_loaded_with_its_order(family: str, ids: torch.Tensor, tmp_path: Path) -> None:
    super_adapter = disturbed(family)
    save_super_adapter(super_adapter, tmp_path)
    loaded = load_super_adapter(tmp_path, made(family))
    assert loaded.space.axes == super_adapter.space.axes
    config = configured(super_adapter, 4)
    with super_adapter.activated(config), loaded.activated(config):
        assert torch.equal(logits(loaded.model, ids), logits(super_adapter.model, ids))
    assert json.loads((tmp_path / "super_adapter.json").read_text())["schema"] == 4


def test_a_description_of_an_earlier_version_is_refused(tmp_path: Path) -> None:
    save_super_adapter(disturbed("llama"), tmp_path)
    file = tmp_path / "super_adapter.json"
    numbered = {"name": "deep", "sites": [], "groups": [], "choices": [], "left_out_in_order": list(ORDER)}
    file.write_text(json.dumps({**json.loads(file.read_text()), "schema": 3, "space": numbered}))
    with pytest.raises(InputError, match="holds no super-adapter that this version reads; train again"):
        load_super_adapter(tmp_path, made("llama"))


def test_a_damaged_order_is_refused(tmp_path: Path) -> None:
    save_super_adapter(disturbed("llama"), tmp_path)
    file = tmp_path / "super_adapter.json"
    description = json.loads(file.read_text())
    description["space"]["axes"][-1]["places"][0] = 9
    file.write_text(json.dumps(description))
    with pytest.raises(InputError, match="holds no super-adapter that this version reads"):
        load_super_adapter(tmp_path, made("llama"))


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointed"])
def test_training_learns_at_every_depth_and_clears_the_gradients_of_all_layers(
    checkpointing: bool, tmp_path: Path
) -> None:
    super_adapter = disturbed("llama")
    rng = np.random.default_rng(2)
    rows = [TokenExample((int(first), 7, int(first) + 1, 9), 2) for first in rng.permutation(200)[:60]]
    space = super_adapter.space
    ends = space.at(np.stack([0 * space.n_choices + np.array([2] * 42 + [0] * 7), space.highest]))
    before = CompletionLoss(super_adapter, rows)(ends)
    train_super_adapter(
        super_adapter,
        rows,
        TrainingSettings(15, 0, learning_rate=1e-2, activation_checkpointing=checkpointing),
        folder=tmp_path,
        step=SANDWICH,
    )
    assert (CompletionLoss(super_adapter, rows)(ends) < before).all()
    assert len(super_adapter.model.model.layers) == LAYERS
    assert all(layer.A.grad is None for layer in super_adapter.linears.values())


@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_merged_export_is_a_stock_model_of_fewer_layers(
    family: str, width: int, ids: torch.Tensor, tmp_path: Path
) -> None:
    super_adapter = disturbed(family)
    config = configured(super_adapter, 3, width)
    exported(super_adapter, config, tmp_path / "out", base_name=None, kind="merged", is_read=False)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert (loaded.config.num_hidden_layers, loaded.config.intermediate_size) == (3, width)
    types = super_adapter.model.config.to_dict().get("layer_types")
    assert getattr(loaded.config, "layer_types", None) == (types and [types[layer] for layer in (1, 2, 5)])
    assert same(logits(loaded, ids), logits(stock(family, super_adapter, config), ids))
    with super_adapter.activated(config):
        assert same(logits(loaded, ids), logits(super_adapter.model, ids))
    assert json.loads((tmp_path / "out" / "adaptare.json").read_text())["left_out"] == [0, 3, 4]


def test_depth_is_refused_for_peft_with_the_way_out(tmp_path: Path) -> None:
    super_adapter = disturbed("llama")
    with pytest.raises(InputError, match="belongs to a model of fewer layers; export the model, as merged or onnx"):
        exported(super_adapter, configured(super_adapter, 3), tmp_path / "out", base_name=None)


def run(folder: Path, ids: torch.Tensor, **entries: str) -> torch.Tensor:
    """Logits of the last token, as a user of ONNX Runtime gets them from the config beside the model."""
    import onnxruntime

    config = json.loads((folder / "config.json").read_text())
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    for name, value in entries.items():
        options.add_session_config_entry(f"session.{name}", value)
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    empty = np.zeros((len(ids), config["num_key_value_heads"], 0, config["head_dim"]), np.float32)
    layers = range(config["num_hidden_layers"])
    feed = {f"past_key_values.{layer}.{half}": empty for layer in layers for half in ("key", "value")}
    feed |= {"input_ids": ids.numpy(), "attention_mask": np.ones(ids.shape, np.int64)}
    return torch.tensor(session.run(["logits"], feed)[0][:, -1])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "onnx-static"])
@pytest.mark.parametrize("family", FAMILIES)
def test_onnx_exports_are_models_of_fewer_layers(
    family: str,
    kind: Any,
    folder_of: Folder,
    tokenizer: PreTrainedTokenizerBase,
    ids: torch.Tensor,
    tmp_path: Path,
) -> None:
    super_adapter, base = disturbed(family), folder_of(family, tokenizer)
    config = configured(super_adapter, 3, 32)
    difference = exported(super_adapter, config, tmp_path / "out", kind=kind, base=base, cache=base.parent / "cache")
    assert difference < 1e-4
    assert same(run(tmp_path / "out", ids), logits(stock(family, super_adapter, config), ids)[:, -1])


def test_a_requantised_shallow_model_has_the_weights_that_its_loss_is_computed_with(
    folder_of: Folder, tokenizer: PreTrainedTokenizerBase, ids: torch.Tensor, tmp_path: Path
) -> None:
    super_adapter, base = disturbed("llama"), folder_of("llama", tokenizer)
    config = configured(super_adapter, 4)
    again = requantised(super_adapter, config, base, "int4")
    expected = stock("llama", super_adapter, config)
    sites = ModelShape.from_config(expected.config).sites
    weights = {path: expected.get_submodule(path).weight for path in [*(site.path for site in sites), "lm_head"]}
    rounded = rounded_weights({path: weight.detach().T.numpy() for path, weight in weights.items()}, "int4")
    for path, values in rounded.items():
        weights[path].copy_(torch.from_numpy(values).T)
    with again.activated(config.without_adapter):
        assert same(logits(again.model, ids), logits(expected, ids))
    options: dict[str, Any] = {"base": base, "quantisation": "int4", "cache": base.parent / "cache"}
    exported(super_adapter, config, tmp_path / "out", kind="onnx", **options)
    # Without prepacking, kernels do not round activations.
    assert same(run(tmp_path / "out", ids, disable_prepacking="1"), logits(expected, ids)[:, -1])


def test_each_depth_is_a_uniform_cut_with_the_largest_adapter() -> None:
    space = deep_space(made("llama"))
    found = {name: space.decode(space.at(points)) for name, points in uniform_cuts(space).items()}
    assert {name for name in found if name.endswith(" layers")} == {"3 layers", "4 layers"}
    assert found["3 layers"].left_out == (0, 3, 4)
    assert (len(found["3 layers"].ranks), set(found["3 layers"].by_path.values())) == (21, {4})
