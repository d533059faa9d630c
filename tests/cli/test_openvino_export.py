"""Models and adapters for OpenVINO: written, run, and checked."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.numpy
import torch
from mixed_ranks import MIXED

from adaptare.profiler import open_model
from adaptare.profiler.models.disk_cache import KeptFolders
from adaptare.profiler.programs.openvino import base_graph

pytestmark = pytest.mark.openvino
Run = Callable[..., Any]


@pytest.fixture
def adapter(saved: Callable[..., Path]) -> Path:
    """Mixed ranks and scales, saved by PEFT."""
    torch.manual_seed(1)
    return saved("mine", **MIXED)


@pytest.fixture
def base(model_cache: Path) -> Path:
    source = open_model("tiny-random", cache=model_cache)
    return base_graph(KeptFolders(model_cache, "openvino"), source.shape, "float32", weights=source)[0]


@pytest.fixture
def export(run: Run, adapter: Path, model_cache: Path) -> Callable[[str], Path]:
    def written(kind: str) -> Path:
        answer = run("export", adapter, "--base", "tiny-random", "--to", kind, "-o", kind, "--cache", model_cache)
        assert answer.code == 0, answer.err
        return Path(kind)

    return written


@pytest.fixture
def check(run: Run, adapter: Path, model_cache: Path) -> Run:
    fixed = ("check", adapter, "--base", "tiny-random", "--runtime", "openvino", "--cache", model_cache)
    return lambda *words: run(*fixed, *words)


@pytest.mark.slow
def test_exports_are_applied(check: Run, export: Callable[[str], Path], base: Path) -> None:
    weights = export("peft-folded") / "adapter_model.safetensors"
    weights.with_name("mine.safetensors").write_bytes(weights.read_bytes())
    weights.unlink()  # the file that is given counts, by any name
    for words in (
        ("--file", export("openvino")),
        ("--file", base.parent, "--adapter-file", weights.with_name("mine.safetensors")),
    ):
        answer = check(*words, "--json")
        assert answer.code == 0, answer.out + answer.err
        assert answer.json["finding"]["scale"] == pytest.approx(1.0, abs=0.05)


def test_a_wrong_adapter_is_named(check: Run, export: Callable[[str], Path], base: Path) -> None:
    tensors = safetensors.numpy.load_file(export("peft-folded") / "adapter_model.safetensors")
    for half in "AB":
        del tensors[f"base_model.model.model.layers.0.self_attn.q_proj.lora_{half}.weight"]
    safetensors.numpy.save_file(tensors, "adapter_model.safetensors")
    answer = check("--file", base.parent, "--adapter-file", Path("adapter_model.safetensors"))
    assert answer.code == 1, answer.out + answer.err
    assert "the file has no A and B of this site" in " ".join(answer.out.split())
