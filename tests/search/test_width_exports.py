"""Exports of narrower models: for transformers at one width, for ONNX Runtime at any."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exports import exported
from narrow_models import FAMILIES, complete_updates, dense, disturbed, logits, made, same
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from adaptare.core import InputError
from adaptare.profiler import Configuration
from adaptare.profiler.programs.onnx.quantise import rounded_weights
from adaptare.search.super_adapter.merging import requantised
from adaptare.search.super_adapter.model import SuperAdapter

UNEVEN = {0: 32, 2: 48}


def configured(super_adapter: SuperAdapter, widths: dict[int, int]) -> Configuration:
    """Ranks 0, 2 and 4 by turns, and these widths."""
    ranks = {site.path: 2 * (number % 3) for number, site in enumerate(super_adapter.space.sites)}
    return Configuration.of(ranks, widths=widths)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Folders of the families' models, and next to them a cache of their ONNX exports."""
    place = tmp_path_factory.mktemp("bases")

    def folder(family: str, tokenizer: PreTrainedTokenizerBase) -> Path:
        if not (place / family).exists():
            made(family).save_pretrained(place / family)
            tokenizer.save_pretrained(place / family)
        return place / family

    return folder


@pytest.mark.parametrize("width", [32, 48, 64])
def test_one_width_is_a_stock_model_of_a_smaller_intermediate_size(
    family: str, width: int, ids: torch.Tensor, tmp_path: Path
) -> None:
    super_adapter = disturbed(family)
    config = configured(super_adapter, dict.fromkeys(range(3), width) if width < 64 else {})
    before = super_adapter.model.config.intermediate_size
    exported(super_adapter, config, tmp_path / "out", base_name=None, kind="merged", is_read=False)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert loaded.config.intermediate_size == width
    expected = logits(dense(made(family), config.by_layer, complete_updates(super_adapter, config.by_path)), ids)
    assert same(logits(loaded, ids), expected)
    assert super_adapter.model.config.intermediate_size == before
    per_layer = sum(
        linear.weight.numel() for linear in loaded.model.layers[0].mlp.children() if hasattr(linear, "weight")
    )
    assert per_layer == 3 * 32 * width


def test_uneven_widths_are_refused_for_transformers_with_the_way_out(tmp_path: Path) -> None:
    super_adapter = disturbed("llama")
    with pytest.raises(InputError, match=r"one width in all layers, and this one has 32, 48, 64; .* as onnx"):
        exported(super_adapter, configured(super_adapter, UNEVEN), tmp_path / "out", base_name=None, kind="merged")
    assert not (tmp_path / "out").exists()


def test_widths_are_refused_for_peft_with_the_way_out(tmp_path: Path) -> None:
    super_adapter = disturbed("llama")
    with pytest.raises(InputError, match="belongs to narrower layers; export the model, as merged or onnx"):
        exported(super_adapter, configured(super_adapter, UNEVEN), tmp_path / "out", base_name=None)


def run(folder: Path, ids: torch.Tensor, **entries: str) -> torch.Tensor:
    """Logits of the last token, as a user of ONNX Runtime gets them."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    for name, value in entries.items():
        options.add_session_config_entry(f"session.{name}", value)
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    feed = {
        port.name: np.zeros((len(ids), port.shape[1], 0, port.shape[3]), np.float32)
        for port in session.get_inputs()[2:]
    }
    feed |= {"input_ids": ids.numpy(), "attention_mask": np.ones(ids.shape, np.int64)}
    return torch.tensor(session.run(["logits"], feed)[0][:, -1])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "onnx-static"])
def test_uneven_widths_run_on_onnx_runtime(
    family: str,
    kind: Any,
    bases: Callable[..., Path],
    tokenizer: PreTrainedTokenizerBase,
    ids: torch.Tensor,
    tmp_path: Path,
) -> None:
    super_adapter, base = disturbed(family), bases(family, tokenizer)
    config = configured(super_adapter, UNEVEN)
    difference = exported(super_adapter, config, tmp_path / "out", kind=kind, base=base, cache=base.parent / "cache")
    assert difference < 1e-3
    expected = dense(made(family), UNEVEN, complete_updates(super_adapter, config.by_path))
    assert same(run(tmp_path / "out", ids), logits(expected, ids)[:, -1], 1e-3)
    assert json.loads((tmp_path / "out" / "adaptare.json").read_text())["widths"] == {"0": 32, "2": 48}


def test_a_requantised_narrow_model_has_the_weights_that_its_loss_is_computed_with(
    bases: Callable[..., Path], tokenizer: PreTrainedTokenizerBase, ids: torch.Tensor, tmp_path: Path
) -> None:
    super_adapter, base = disturbed("llama"), bases("llama", tokenizer)
    for tensor in super_adapter.state().values():
        tensor *= 0.1  # so that rounded activations, which kernels have and torch does not, matter little
    config = configured(super_adapter, {0: 32, 1: 32})
    again = requantised(super_adapter, config, base, "int4")
    expected = dense(made("llama"), config.by_layer, complete_updates(super_adapter, config.by_path))
    paths = [site.path for site in super_adapter.space.sites] + ["lm_head"]
    weights = {path: expected.get_submodule(path).weight.detach().T.numpy() for path in paths}
    for path, values in rounded_weights(weights, "int4").items():
        expected.get_submodule(path).weight = torch.nn.Parameter(torch.from_numpy(values).T.contiguous())
    with again.activated(config.without_adapter):
        assert same(logits(again.model, ids), logits(expected, ids))
    options = {"kind": "onnx", "base": base, "quantisation": "int4", "cache": base.parent / "cache"}
    assert exported(super_adapter, config, tmp_path / "out", **options) < 0.1  # type: ignore[arg-type]
    # Without prepacking, kernels do not round activations.
    found = run(tmp_path / "out", ids, disable_prepacking="1")
    assert same(found, logits(expected, ids)[:, -1])


def test_a_swappable_narrow_model_takes_the_adapter_of_its_widths(
    bases: Callable[..., Path], tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    super_adapter, base = disturbed("llama"), bases("llama", tokenizer)
    config = configured(super_adapter, UNEVEN)
    options = {"kind": "onnx-swappable", "base": base, "every_site": True, "cache": base.parent / "cache"}
    assert exported(super_adapter, config, tmp_path / "out", **options) < 1e-3  # type: ignore[arg-type]
