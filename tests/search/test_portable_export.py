"""Exports for llama.cpp, vLLM and Olive, each read by its own rule, which is written down anew here."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from exports import exported
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.numpy import load_file
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from adaptare.core import DeviceError, InputError
from adaptare.profiler import Configuration, ModelShape, named_space, read_peft
from adaptare.search import export_adapter
from adaptare.search.export import peft
from adaptare.search.export.peft_import import import_peft
from adaptare.search.super_adapter.model import SuperAdapter

BASE = LlamaConfig(
    vocab_size=260,
    hidden_size=36,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=9,
    num_key_value_heads=3,
    max_position_embeddings=64,
    initializer_range=0.2,
)
RANKS = {
    "model.layers.0.self_attn.q_proj": 2,
    "model.layers.0.self_attn.k_proj": 8,
    "model.layers.1.self_attn.o_proj": 4,
    "model.layers.1.mlp.gate_proj": 1,
    "model.layers.1.mlp.down_proj": 8,
}
CONFIG = Configuration.of(RANKS)


def base() -> PreTrainedModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlamaForCausalLM(BASE).requires_grad_(False).eval()


@pytest.fixture
def adapted(tiny: SimpleNamespace) -> SuperAdapter:
    space = named_space("sites", ModelShape.from_config(BASE), ranks=(0, 1, 2, 4, 8))
    super_adapter = SuperAdapter(base(), space, alpha=3.0, seed=0)
    tiny.disturb(super_adapter)
    return super_adapter


def logits(model: PreTrainedModel, ids: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        found: np.ndarray = model(ids).logits.numpy()
    return found


def as_exported(super_adapter: SuperAdapter, ids: torch.Tensor, config: Configuration = CONFIG) -> np.ndarray:
    with super_adapter.activated(config):
        return logits(super_adapter.model, ids)


def content(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    return json.loads((folder / "adapter_config.json").read_text()), load_file(folder / "adapter_model.safetensors")


def with_updates(deltas: dict[str, np.ndarray], ids: torch.Tensor) -> np.ndarray:
    """Logits of a new base whose weights have the updates."""
    model = base()
    for name, delta in deltas.items():
        model.get_parameter(name).data += torch.from_numpy(delta).float()
    return logits(model, ids)


def by_llama_cpp(folder: Path, ids: torch.Tensor) -> np.ndarray:
    """As convert_lora_to_gguf.py and the loader of its file: one 32-bit alpha, over the rank of each B."""
    settings, tensors = content(folder)
    alpha, deltas = np.float32(settings["lora_alpha"]), {}
    for name in {key.replace("lora_B.", "lora_A.") for key in tensors}:
        A, B = tensors[name], tensors[name.replace("lora_A.", "lora_B.")]
        scale = alpha / np.float32(B.shape[1]) if alpha else np.float32(1)
        deltas[name.replace("base_model.model.", "").replace(".lora_A.weight", ".weight")] = scale * (B @ A)
    return with_updates(deltas, ids)


def by_vllm(folder: Path, ids: torch.Tensor) -> np.ndarray:
    """As `PEFTHelper`: one scale from `r` and `lora_alpha`; the rows of A must fit into `r`, which is reserved."""
    settings, tensors = content(folder)
    assert not settings.get("modules_to_save")
    assert not settings.get("use_dora")
    r = settings["r"]
    scale = settings["lora_alpha"] / (r**0.5 if settings.get("use_rslora") else r)
    deltas = {}
    for name, A in tensors.items():
        path, half, weight = name.removeprefix("base_model.model.").rsplit(".", 2)
        assert weight == "weight"
        if half == "lora_A":
            assert len(A) <= r
            deltas[f"{path}.weight"] = scale * (tensors[name.replace("lora_A", "lora_B")] @ A)
    return with_updates(deltas, ids)


def by_olive(folder: Path, ids: torch.Tensor) -> np.ndarray:
    """As `convert-adapters`: transposed, and every B times one scale."""
    config = LoraConfig.from_pretrained(str(folder))
    _, tensors = content(folder)
    turned = {
        name.replace("base_model.model.model", "model"): tensor.T
        * (config.lora_alpha / config.r if "_B" in name else 1)
        for name, tensor in tensors.items()
    }
    pairs = {name: (A, turned[name.replace("_A", "_B")]) for name, A in turned.items() if "lora_A" in name}
    return with_updates({name.replace(".lora_A", ""): (A @ B).T for name, (A, B) in pairs.items()}, ids)


def by_peft(folder: Path, ids: torch.Tensor) -> np.ndarray:
    return logits(PeftModel.from_pretrained(base(), str(folder)).eval(), ids)


@pytest.mark.parametrize(
    ("kind", "readers", "ranks"),
    [
        ("peft-portable", (by_llama_cpp, by_peft), RANKS),
        ("peft-uniform", (by_vllm, by_olive, by_llama_cpp, by_peft), dict.fromkeys(RANKS, 8)),
    ],
)
def test_an_adapter_is_the_same_in_every_reader_of_its_kind(
    kind: str, readers: Any, ranks: dict[str, int], adapted: SuperAdapter, ids: torch.Tensor, tmp_path: Path
) -> None:
    before = [adapted.active.tolist(), as_exported(adapted, ids).tolist()]
    assert exported(adapted, CONFIG, tmp_path / "out", kind=kind, base_name="some/base") < 1e-5
    expected = as_exported(adapted, ids)
    assert np.abs(expected - logits(base(), ids)).max() > 1e-2
    for read in readers:
        assert np.abs(read(tmp_path / "out", ids) - expected).max() < 1e-4, read.__name__
    settings, tensors = content(tmp_path / "out")
    assert set(settings["target_modules"]) == set(RANKS)
    assert len(tensors) == 2 * len(RANKS)
    assert not settings["alpha_pattern"]
    assert bool(settings["rank_pattern"]) == (kind == "peft-portable")
    assert read_peft(tmp_path / "out", adapted.shape) == Configuration.of(ranks)
    # The check within the export runs the model with hooks.
    assert [adapted.active.tolist(), expected.tolist()] == before
    assert not any(module._forward_hooks for module in adapted.model.modules())


@pytest.mark.filterwarnings("ignore:Could not find a config file:UserWarning")
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("peft-portable", {"alpha_pattern": {"q_proj": 5, r"layers\.1\.mlp\.down_proj": 0.5}}),
        ("peft-portable", {"use_rslora": True}),
        ("peft-uniform", {"use_rslora": True, "alpha_pattern": {"down_proj": 9}}),
        ("peft-uniform", {"lora_alpha": 0.75}),
    ],
)
def test_a_mixed_rank_folder_of_peft_is_converted(
    kind: Any, settings: dict[str, Any], ids: torch.Tensor, tmp_path: Path
) -> None:
    arguments = {"r": 4, "lora_alpha": 3, "rank_pattern": {"q_proj": 2, "down_proj": 6}, "init_lora_weights": False}
    arguments |= {"target_modules": ["q_proj", "v_proj", "down_proj"], **settings}
    with torch.random.fork_rng():
        torch.manual_seed(5)
        theirs = get_peft_model(base(), LoraConfig(**arguments)).eval()
    theirs.save_pretrained(tmp_path / "adapter")
    export_adapter(import_peft(tmp_path / "adapter", base()), tmp_path / "out", kind=kind)
    readers = (by_llama_cpp, by_peft) if kind == "peft-portable" else (by_vllm, by_olive, by_llama_cpp, by_peft)
    expected = logits(theirs, ids)
    assert np.abs(expected - logits(base(), ids)).max() > 1e-2
    for read in readers:
        assert np.abs(read(tmp_path / "out", ids) - expected).max() < 1e-4


@pytest.fixture
def one(tiny: SimpleNamespace) -> SuperAdapter:
    super_adapter = tiny.super_adapter(tiny.model())
    tiny.disturb(super_adapter)
    return super_adapter


SMALL = Configuration.of({"model.layers.0.self_attn.q_proj": 2, "model.layers.1.mlp.up_proj": 4})


@pytest.mark.parametrize("kind", ["peft-portable", "peft-uniform"])
def test_an_export_that_a_reader_misreads_leaves_the_earlier_one(
    one: SuperAdapter, kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported(one, SMALL, tmp_path / "out", kind=kind, base_name="first")
    before = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    write = peft._write_files

    def misprint(adapter: Any, folder: Path, settings: Any = None) -> None:
        write(adapter, folder, settings)
        content = json.loads((folder / "adapter_config.json").read_text())
        (folder / "adapter_config.json").write_text(json.dumps({**content, "lora_alpha": 2 * content["lora_alpha"]}))

    monkeypatch.setattr(peft, "_write_files", misprint)
    with pytest.raises(DeviceError, match=r"as (llama\.cpp|vLLM or Olive) reads it, differ from torch's by"):
        exported(one, SMALL, tmp_path / "out", kind=kind, base_name="second")
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(("kind", "value"), [("peft", "nan"), ("peft-portable", "inf"), ("peft-uniform", "nan")])
def test_weights_that_are_no_finite_numbers_are_not_written(
    one: SuperAdapter, kind: str, value: str, tmp_path: Path
) -> None:
    one.state()["model.layers.1.mlp.up_proj.A"][0, 0] = float(value)
    with pytest.raises(InputError, match=r"adapter of 'model\.layers\.1\.mlp\.up_proj' has NaN or infinite values"):
        exported(one, SMALL, tmp_path / "out", kind=kind)
    assert not list(tmp_path.iterdir())


def test_a_rank_that_peft_would_not_build_is_found() -> None:
    with pytest.raises(DeviceError, match="PEFT would build rank 4 at a, whose tensors have rank 2"):
        peft.scale_of_patterns({"r": 4, "lora_alpha": 1, "rank_pattern": {"b": 2}}, "a", 2)
