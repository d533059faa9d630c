"""Models and adapters for OpenVINO: written, run, and checked."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from mixed_ranks import MIXED

from adaptare.devices.agent.openvino_runtime import last_logits
from adaptare.profiler import open_model
from adaptare.profiler.models.disk_cache import KeptFolders
from adaptare.profiler.programs.openvino import base_graph
from adaptare.search.export.peft import read_halves, scale_of_tensors

pytestmark = pytest.mark.openvino
Run = Callable[..., Any]
Tensors = dict[str, "np.typing.NDArray[np.float32]"]


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
def test_openvino_generates_the_tokens_of_peft(
    export: Callable[[str], Path], adapter: Path, base: Path, model_cache: Path
) -> None:
    from peft import PeftModel

    from adaptare.search import load_base

    model, _ = load_base(open_model("tiny-random", cache=model_cache).weights_folder())
    prompt = [72, 40, 90, 33]
    with torch.inference_mode():
        peft = PeftModel.from_pretrained(model, adapter).eval()
        expected = peft.generate(torch.tensor([prompt]), max_new_tokens=32, do_sample=False, eos_token_id=None)
    halves = {path: (own.A, own.B) for path, own in read_halves(export("peft-folded"), scale_of_tensors).items()}
    for file, given in ((export("openvino") / "openvino_model.xml", {}), (base, halves)):
        tokens = list(prompt)
        for _ in range(32):
            tokens.append(int(np.argmax(last_logits(str(file), tokens, given)[-1])))
        assert tokens == expected[0].tolist()


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


def without_a_site(tensors: Tensors) -> None:
    for half in "AB":
        del tensors[f"base_model.model.model.layers.0.self_attn.q_proj.lora_{half}.weight"]


def zeroed(tensors: Tensors) -> None:
    for name in tensors:
        tensors[name] = tensors[name] * ("lora_A" in name)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without_a_site, "the file has no A and B of this site"),
        (zeroed, "B is zero in the file"),
    ],
)
def test_a_wrong_adapter_is_named(
    check: Run, export: Callable[[str], Path], base: Path, change: Callable[[Tensors], None], said: str
) -> None:
    tensors = safetensors.numpy.load_file(export("peft-folded") / "adapter_model.safetensors")
    change(tensors)
    safetensors.numpy.save_file(tensors, "adapter_model.safetensors")
    answer = check("--file", base.parent, "--adapter-file", Path("adapter_model.safetensors"))
    assert answer.code == 1, answer.out + answer.err
    assert said in " ".join(answer.out.split())


def test_an_adapter_whose_alpha_is_not_read_is_named(check: Run, adapter: Path, base: Path) -> None:
    answer = check("--file", base.parent, "--adapter-file", adapter / "adapter_model.safetensors", "--json")
    assert answer.code == 1, answer.out + answer.err
    assert "no alpha" in answer.out


def test_a_folder_without_a_graph_is_refused(check: Run, adapter: Path) -> None:
    answer = check("--file", adapter)
    assert answer.code == 2
    assert "is no folder for openvino, and lies in none" in " ".join(answer.err.split())
