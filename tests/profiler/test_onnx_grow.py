"""Deep decoders whose graphs are grown from three layers, against torch and against exports of all layers."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from transformers import PreTrainedConfig, PreTrainedModel

from adaptare.profiler import ModelShape
from adaptare.profiler.models.random_model import random_model
from adaptare.profiler.programs.onnx import export as onnx_export
from adaptare.profiler.programs.onnx import grow
from adaptare.profiler.programs.onnx.base import MODEL, OnnxBase
from adaptare.profiler.programs.onnx.session import run_model

Configs = Mapping[str, Callable[[], PreTrainedConfig]]
DEEP = 6
# Mistral has the same layers as Llama.
GROWN = ("llama", "phi3", "qwen2", "qwen3")
SIZES = {"batch": 2, "past": 9, "tokens": 4}


def deep_config(configs: Configs, family: str) -> dict[str, Any]:
    content = {**configs[family]().to_dict(), "num_hidden_layers": DEEP}
    content.pop("layer_types", None)
    return content


def models(content: Mapping[str, Any]) -> tuple[PreTrainedModel, PreTrainedModel]:
    """All layers, each weight unlike every other, and three."""
    model = random_model(content)
    generator = torch.Generator().manual_seed(1)
    for weight in model.parameters():
        weight.copy_(weight + 0.3 * torch.randn(weight.shape, generator=generator))
    return model, random_model(json.loads(ModelShape.from_mapping(content).stub(grow.LAYERS).config))


@pytest.fixture(scope="module")
def traces() -> dict[str, Path]:
    """Config -> folder with what torch exported of it, which takes seconds; models of one config have equal weights."""
    return {}


@pytest.fixture(autouse=True)
def traced(
    monkeypatch: pytest.MonkeyPatch, traces: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> list[int]:
    """Layers of everything that torch exports, or has exported before."""
    layers: list[int] = []
    plain = onnx_export._traced

    def noted(decoder: Any, folder: Path) -> onnx.ModelProto:
        layers.append(decoder.layers)
        config = decoder.model.config.to_json_string()
        if config not in traces:
            place = tmp_path_factory.mktemp("trace")
            onnx.save(plain(decoder, place), place / MODEL)
            traces[config] = place
        shutil.copytree(traces[config], folder, dirs_exist_ok=True)
        return onnx.load(folder / MODEL, load_external_data=False)

    monkeypatch.setattr(onnx_export, "_traced", noted)
    return layers


def outputs(base: OnnxBase) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    values: dict[str, NDArray[Any]] = {"input_ids": rng.integers(0, 64, base.inputs[0].sizes(**SIZES))}
    for port in base.inputs[1:]:
        values[port.name] = rng.standard_normal(port.sizes(**SIZES), dtype=np.float32)
    return run_model(base.model, values)


@pytest.mark.slow
@pytest.mark.parametrize("family", GROWN)
def test_three_layers_stand_for_all(configs: Configs, family: str, tmp_path: Path, traced: list[int]) -> None:
    model, few = models(deep_config(configs, family))
    grown = onnx_export.export_decoder(model, tmp_path, few=few)
    assert traced == [grow.LAYERS]
    assert grown.difference <= onnx_export.TOLERANCE
    assert [port.name for port in grown.inputs] == [
        "input_ids",
        *(f"past.{layer}.{half}" for layer in range(DEEP) for half in ("key", "value")),
    ]
    assert list(grown.sites) == [site.path for site in ModelShape.from_config(model.config).sites]
    onnx.checker.check_model(grown.model)


@pytest.mark.slow
def test_a_grown_graph_computes_what_the_export_of_all_layers_does(configs: Configs, tmp_path: Path) -> None:
    model, few = models(deep_config(configs, "llama"))
    for name in ("grown", "whole"):
        (tmp_path / name).mkdir()
    grown = onnx_export.export_decoder(model, tmp_path / "grown", few=few)
    whole = onnx_export.export_decoder(model, tmp_path / "whole")
    assert (grown.inputs, list(grown.sites)) == (whole.inputs, list(whole.sites))
    ours, expected = outputs(grown), outputs(whole)
    assert len(ours) == len(expected) == 1 + 2 * DEEP
    for one, other in zip(ours, expected, strict=True):
        assert np.abs(one - other).max() <= 1e-4 * max(1.0, float(np.abs(other).max()))
    assert {file.name for file in grown.folder.iterdir()} == {file.name for file in whole.folder.iterdir()}


def test_layers_that_are_not_alike_are_exported_one_by_one(
    configs: Configs, tmp_path: Path, traced: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, few = models(deep_config(configs, "llama"))

    def unlike(*_: object) -> None:
        raise grow.UnlikeLayersError("the layers differ")

    monkeypatch.setattr(grow, "_links", unlike)
    base = onnx_export.export_decoder(model, tmp_path, few=few)
    assert traced == [grow.LAYERS, DEEP]
    assert len(outputs(base)) == 1 + 2 * DEEP


def test_a_grown_graph_that_computes_something_else_is_not_kept(
    configs: Configs, tmp_path: Path, traced: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where layers have the same nodes but other constants, such as a scale by depth."""
    model, few = models(deep_config(configs, "llama"))
    plain = onnx_export._values

    def changed(*given: Any) -> dict[str, NDArray[np.float32]]:
        return {name: value * (0.5 if ".layers.4." in name else 1) for name, value in plain(*given).items()}

    monkeypatch.setattr(onnx_export, "_values", changed)
    base = onnx_export.export_decoder(model, tmp_path, few=few)
    assert traced == [grow.LAYERS, DEEP]
    assert base.difference <= onnx_export.TOLERANCE
