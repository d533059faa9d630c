"""Exports of narrower and shallower models, as transformers and ONNX Runtime load them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exports import exported
from shallow_models import FAMILIES, configured, disturbed, logits, made, same, stock
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from adaptare.core import InputError
from adaptare.profiler import ModelShape
from adaptare.profiler.programs.onnx.quantise import rounded_weights
from adaptare.search.super_adapter.merging import requantised

UNEVEN = {1: 32, 5: 48}


@pytest.fixture
def saved(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> Callable[[str], Path]:
    """Saves the model of a family."""

    def save(family: str) -> Path:
        made(family).save_pretrained(tmp_path / "base")
        tokenizer.save_pretrained(tmp_path / "base")
        return tmp_path / "base"

    return save


@pytest.mark.parametrize("family", FAMILIES)
def test_a_merged_export_is_a_stock_model_of_smaller_sizes(family: str, ids: torch.Tensor, tmp_path: Path) -> None:
    super_adapter = disturbed(family)
    config = configured(super_adapter, 3, dict.fromkeys(range(6), 48))
    exported(super_adapter, config, tmp_path / "out", kind="merged", is_read=False)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert (loaded.config.num_hidden_layers, loaded.config.intermediate_size) == (3, 48)
    assert loaded.model.layers[0].mlp.down_proj.weight.shape == (32, 48)
    types = super_adapter.model.config.to_dict().get("layer_types")
    assert getattr(loaded.config, "layer_types", None) == (types and [types[layer] for layer in (1, 2, 5)])
    assert same(logits(loaded, ids), logits(stock(family, super_adapter, config), ids))
    assert json.loads((tmp_path / "out" / "adaptare.json").read_text())["left_out"] == [0, 3, 4]
    assert super_adapter.model.config.intermediate_size == 64


@pytest.mark.parametrize(
    ("kind", "depth", "widths", "message"),
    [
        ("merged", 6, UNEVEN, r"one width in all layers, and this one has 32, 48, 64; .* as onnx"),
        ("peft", 6, UNEVEN, "belongs to narrower layers; export the model, as merged or onnx"),
        ("peft", 3, {}, "belongs to a model of fewer layers; export the model, as merged or onnx"),
    ],
)
def test_sizes_that_a_kind_cannot_express_are_refused_with_the_way_out(
    kind: str, depth: int, widths: dict[int, int], message: str, tmp_path: Path
) -> None:
    super_adapter = disturbed("qwen3")
    with pytest.raises(InputError, match=message):
        exported(super_adapter, configured(super_adapter, depth, widths), tmp_path / "out", kind=kind)
    assert not (tmp_path / "out").exists()


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
@pytest.mark.parametrize("family", FAMILIES)
def test_onnx_exports_are_models_of_fewer_layers_and_uneven_widths(
    family: str, saved: Callable[[str], Path], ids: torch.Tensor, tmp_path: Path
) -> None:
    super_adapter, base = disturbed(family), saved(family)
    config = configured(super_adapter, 3, UNEVEN)
    expected = logits(stock(family, super_adapter, config), ids)[:, -1]
    for kind in ("onnx", "onnx-static"):
        folder = tmp_path / kind
        assert exported(super_adapter, config, folder, kind=kind, base=base, cache=tmp_path / "cache") < 1e-3
        assert same(run(folder, ids), expected, 1e-3)
        assert json.loads((folder / "adaptare.json").read_text())["widths"] == {"1": 32, "5": 48}


def test_a_requantised_model_has_the_weights_that_its_loss_is_computed_with(
    saved: Callable[[str], Path], ids: torch.Tensor, tmp_path: Path
) -> None:
    super_adapter, base = disturbed("biased"), saved("biased")
    config = configured(super_adapter, 4, {1: 32, 2: 32})
    again = requantised(super_adapter, config, base, "int4")
    expected = stock("biased", super_adapter, config)
    sites = ModelShape.from_config(expected.config).sites
    weights = {path: expected.get_submodule(path).weight for path in [*(site.path for site in sites), "lm_head"]}
    rounded = rounded_weights({path: weight.detach().T.numpy() for path, weight in weights.items()}, "int4")
    for path, values in rounded.items():
        weights[path].copy_(torch.from_numpy(values).T)
    with again.activated(config.without_adapter):
        assert same(logits(again.model, ids), logits(expected, ids))
    options: dict[str, Any] = {"base": base, "quantisation": "int4", "cache": tmp_path / "cache"}
    exported(super_adapter, config, tmp_path / "out", kind="onnx", **options)
    # Without prepacking, kernels do not round activations.
    assert same(run(tmp_path / "out", ids, disable_prepacking="1"), logits(expected, ids)[:, -1])


def test_a_swappable_model_takes_the_adapter_of_its_sizes(saved: Callable[[str], Path], tmp_path: Path) -> None:
    super_adapter, base = disturbed("biased"), saved("biased")
    options: dict[str, Any] = {"base": base, "every_site": True, "cache": tmp_path / "cache"}
    config = configured(super_adapter, 4, UNEVEN)
    assert exported(super_adapter, config, tmp_path / "out", kind="onnx-swappable", **options) < 1e-3
