"""Each export has a model card, whose Python loads the export where adaptare is not installed."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from exports import exported
from transformers import PreTrainedTokenizerBase

from adaptare.core.extensions import extensions
from adaptare.profiler import Configuration
from adaptare.search.export.kinds import export_kind
from adaptare.search.super_adapter.model import SuperAdapter

# An adapter for llama.cpp needs a GGUF file with a tokenizer: that of the demo model.
KINDS = [
    pytest.param(kind, marks=[pytest.mark.openvino] if kind == "openvino" else [])
    for kind in extensions("adaptare.exports")
    if kind != "gguf"
]
CONFIG = Configuration.of({"model.layers.1.self_attn.q_proj": 2, "model.layers.0.mlp.down_proj": 4})
PROMPT = "Once upon a time"
ALONE = "import sys; sys.modules['adaptare'] = None; exec(sys.stdin.read())"


def snippet_of(card: Path) -> str:
    return card.read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]


@pytest.fixture
def expected(trained: SuperAdapter, tokenizer: PreTrainedTokenizerBase) -> str:
    """Prompt and text of the adapted model in memory."""
    ids = tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    with trained.activated(CONFIG), torch.inference_mode():
        tokens = trained.model.generate(ids, max_new_tokens=32, do_sample=False)[0]
    return str(tokenizer.decode(tokens))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
def test_the_python_of_a_card_generates_the_text_of_the_adapter_without_adaptare(
    kind: str, trained: SuperAdapter, tokenizer: PreTrainedTokenizerBase, tiny_base: Path, expected: str, tmp_path: Path
) -> None:
    folder, words = tmp_path / "out", {"base": tiny_base, "cache": tiny_base.parent / "cache", "tokenizer": tokenizer}
    difference = exported(trained, CONFIG, folder, kind=kind, base_name=str(tiny_base), **words)
    if kind == "onnx-adapter":
        exported(trained, CONFIG, tmp_path / "model", kind="onnx-swappable", **words)
    snippet = snippet_of(folder / "README.md")
    assert len(snippet.splitlines()) <= 12
    command = [sys.executable, "-I", "-c", ALONE]
    source = snippet.replace("MODEL", str(tmp_path / "model"))
    done = subprocess.run(command, input=source, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    text = done.stdout.removesuffix("\n")
    shorter = min(len(text), len(expected)) - 1  # the last character may be incomplete
    assert shorter > len(PROMPT) + 8
    assert text[:shorter] == expected[:shorter]
    assert (difference == difference) == (kind != "onnx-adapter")


@pytest.mark.parametrize(
    ("kind", "quantisation", "said"),
    [
        ("genai", "int4", ["4-bit weights", "rounds activations", "by at most", "base_model: some/base"]),
        ("onnx-adapter", "none", ["not compared", "base_model: some/base"]),
    ],
)
def test_a_card_says_what_was_exported(
    kind: str, quantisation: str, said: list[str], trained: SuperAdapter, tiny_base: Path, tmp_path: Path
) -> None:
    words = {
        "base": tiny_base,
        "base_name": "some/base",
        "cache": tiny_base.parent / "cache",
        "quantisation": quantisation,
    }
    exported(trained, CONFIG, tmp_path / "out", kind=kind, **words)
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    said = [*said, export_kind(kind).summary[1:], CONFIG.describe()]
    assert [words for words in said if words not in card] == []


def test_a_base_without_a_name_is_named_by_whoever_loads_the_adapter(trained: SuperAdapter, tmp_path: Path) -> None:
    exported(trained, CONFIG, tmp_path / "out", is_read=False)
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "base_model" not in card
    assert 'base = "BASE"  # folder or hub id' in card


def test_weights_that_were_dequantised_are_said(trained: SuperAdapter, tmp_path: Path) -> None:
    base = tmp_path / "Some-Model.Q4_1-0123456789ab"
    base.mkdir()
    (base / ".adaptare-cache").touch()
    exported(trained, CONFIG, tmp_path / "out", base=base, is_read=False)
    assert "weights of Some-Model.Q4_1.gguf, which are rounded" in (tmp_path / "out" / "README.md").read_text()
