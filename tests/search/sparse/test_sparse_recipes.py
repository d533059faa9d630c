"""The recipes on sparse bases: their spaces, and each from training to files that stock tools load."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from exports import difference_in_peft, exported
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, PreTrainedModel
from typer.testing import CliRunner

from adaptare.app import app
from adaptare.core import InputError
from adaptare.profiler import Configuration, ModelShape, named_space, open_model
from adaptare.search import CompletionLoss, SuperAdapter, search
from adaptare.search.algorithms.algorithm import algorithm_named
from adaptare.search.recipes.recipe import recipe_named
from adaptare.search.recipes.shears import space
from adaptare.search.super_adapter.base_model import decoder_linears
from adaptare.search.super_adapter.merging import share_of_zeros
from adaptare.search.training.record import TrainingSettings
from adaptare.workflows.train.adaptation import Adaptation, reload_adaptation
from adaptare.workflows.train.task import TrainingData
from adaptare.workflows.train.training import TrainRequest
from adaptare.workflows.train.training import train as run_training

SMOLLM2 = {
    "model_type": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
}


@pytest.mark.parametrize(
    ("name", "grouped"),
    [
        ("shears", {("q_proj", "k_proj", "v_proj"), ("up_proj",), ("down_proj",)}),
        ("sqft", {("q_proj", "k_proj", "v_proj"), ("up_proj", "down_proj")}),
    ],
)
def test_the_axes_of_a_space_are_those_of_its_paper(name: str, grouped: set[tuple[str, ...]]) -> None:
    shape, recipe = ModelShape.from_mapping(SMOLLM2), recipe_named(name)
    made = recipe.space(shape, ranks=recipe.ranks)
    assert made.n_axes == 30 * len(grouped)
    assert {tuple(str(each.place).rpartition(".")[2] for each in axis.dimensions) for axis in made.axes} == grouped
    largest = made.decode(made.at(made.highest))
    assert largest.adapter_parameters(shape) == 6_635_520  # rank 32 on q, k, v, up and down


def test_fused_linears_are_in_the_same_groups() -> None:
    shape = ModelShape.from_mapping({**SMOLLM2, "model_type": "phi3", "num_hidden_layers": 1, "pad_token_id": 0})
    grouped = [[site.kind for site in space(shape, ranks=(2, 4)).sites]]
    assert grouped == [["qkv_proj", "gate_up_proj", "down_proj"]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [{"prompt": f"How much is {a} plus {b}?", "completion": str(a + b)} for a in range(8) for b in range(8)]
    (tmp_path / "data.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return tmp_path / "data.jsonl"


Train = Callable[[str], tuple[Adaptation, SuperAdapter, Configuration]]


@pytest.fixture
def train(tmp_path: Path, data: Path) -> Train:
    """Trains a recipe on tiny-random for a few steps, then loads it again, with the configuration it starts from."""

    def call(name: str) -> tuple[Adaptation, SuperAdapter, Configuration]:
        recipe, source, folder = recipe_named(name), open_model("tiny-random"), tmp_path / name
        settings = TrainingSettings(4, 0, batch_size=4, learning_rate=5e-3)
        examples = TrainingData(0, data, held_out=8)
        trained = run_training(TrainRequest("tiny-random", folder, examples, settings, recipe=name))
        made = recipe.space(source.shape, ranks=recipe.ranks)
        adaptation, super_adapter = reload_adaptation(folder)
        again = CompletionLoss(super_adapter, adaptation.examples.validation)
        assert float(again(super_adapter.largest[None])[0]) == pytest.approx(trained.full_loss, rel=1e-6)
        assert trained.full_loss != trained.base_loss
        return adaptation, super_adapter, made.decode(made.at(recipe.start(made)))

    return call


@pytest.mark.slow
def test_an_adapter_apart_from_its_sparse_base_loads_in_stock_peft(train: Train, tmp_path: Path) -> None:
    adaptation, super_adapter, config = train("shears")
    exported(super_adapter, config, tmp_path / "adapter", base_name=adaptation.base_name)
    found = difference_in_peft(super_adapter, config, tmp_path / "adapter", adaptation.base)
    assert found < 1e-5
    weights = [
        linear.weight for linear in decoder_linears(AutoModelForCausalLM.from_pretrained(adaptation.base)).values()
    ]
    assert share_of_zeros(weights) == 0.5


@pytest.mark.slow
def test_an_adapter_apart_from_its_4_bit_sparse_base_runs_in_onnx_runtime(train: Train, tmp_path: Path) -> None:
    adaptation, super_adapter, config = train("sqft")
    options: dict[str, Any] = {"base": adaptation.base, "quantisation": "int4", "cache": tmp_path / "cache"}
    for kind in ("onnx-static", "onnx-swappable"):
        assert exported(super_adapter, config, tmp_path / kind, kind=kind, **options) < 0.1
    with pytest.raises(InputError, match="keep it apart"):
        exported(super_adapter, config, tmp_path / "merged", kind="onnx", **options)


@pytest.mark.slow
def test_the_whole_path_from_pruning_over_hill_climbing_to_a_sparse_onnx_model(train: Train, tmp_path: Path) -> None:
    adaptation, super_adapter, start = train("sqft-sparsepeft")
    validation = CompletionLoss(super_adapter, adaptation.examples.validation)
    climber = algorithm_named("hill-climbing")(super_adapter.space, seed=0)
    front = search(climber, super_adapter.space, [validation], [], evaluations=6, seed=0)
    best = min(front.history, key=lambda candidate: candidate.values[0])
    assert best.values[0] <= validation(super_adapter.space.encode(start)[None])[0]
    found = best.configuration
    options: dict[str, Any] = {"base": adaptation.base, "cache": tmp_path / "cache"}
    assert exported(super_adapter, found, tmp_path / "onnx", kind="onnx", **options) < 1e-3
    exported(super_adapter, found, tmp_path / "merged", base_name=adaptation.base_name, kind="merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    assert share_of_zeros([linear.weight for linear in decoder_linears(merged).values()]) == 0.5
    ids = torch.arange(12)[None]
    with super_adapter.activated(found), torch.no_grad():
        assert (merged(ids).logits - super_adapter.model(ids).logits).abs().max() < 1e-4


@pytest.mark.slow
def test_a_quantisation_aware_adapter_is_merged_into_codes_for_onnx_runtime(train: Train, tmp_path: Path) -> None:
    adaptation, super_adapter, config = train("sqft-qa-sparsepeft")
    assert super_adapter.layer.on_grid
    before = decoder_linears(AutoModelForCausalLM.from_pretrained(adaptation.base))
    for path, layer in super_adapter.linears.items():
        assert torch.equal(layer.master, before[path].weight)
        assert not torch.equal(layer.base.weight, layer.master)
    options: dict[str, Any] = {"base": adaptation.base, "quantisation": "int4", "cache": tmp_path / "cache"}
    assert exported(super_adapter, config, tmp_path / "onnx", kind="onnx", **options) < 0.1


def run(*words: str) -> Any:
    return CliRunner().invoke(app, words)


def test_a_base_quantised_in_an_unsupported_way_is_refused(data: Path, tmp_path: Path) -> None:
    words = ("train", "tiny-random", "-o", str(tmp_path / "run"), "--data", str(data), "--quantise", "int8")
    done = run(*words, "--recipe", "sqft-qa-sparsepeft")
    assert done.exit_code == 2
    said = "the recipe 'sqft-qa-sparsepeft' is for a base with quantisation int4, not int8"
    assert said in " ".join(done.stderr.split())


def test_a_disk_that_is_full_while_the_base_is_saved_is_told(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    open_model("tiny-random").weights_folder()  # saved already
    monkeypatch.setattr(PreTrainedModel, "save_pretrained", full)
    done = run("train", "tiny-random", "-o", str(tmp_path / "run"), "--data", str(data), "--recipe", "shears")
    assert done.exit_code == 2
    assert "the prepared base cannot be written to" in done.stderr
    assert not (tmp_path / "run" / "base").exists()


def test_a_space_of_the_command_line_is_trained_by_a_masked_recipe_too(data: Path, tmp_path: Path) -> None:
    words = ("train", "tiny-random", "-o", str(tmp_path / "run"), "--data", str(data), "--steps", "1")
    done = run(*words, "--held-out", "4", "--recipe", "sqft-sparsepeft", "--space", "layers", "--rank", "0,4", "--json")
    assert done.exit_code == 0, done.stderr
    assert "model shards" not in done.stderr  # the progress bar of transformers
    _, super_adapter = reload_adaptation(tmp_path / "run")
    assert super_adapter.space.sites == named_space("layers", super_adapter.shape, ranks=(0, 4)).sites
    assert not super_adapter.layer.separable
