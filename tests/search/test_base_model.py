import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerBase

from adaptare.core import InputError
from adaptare.search.super_adapter.base_model import load_base


def test_model_comes_in_fp32_frozen_and_in_evaluation_mode(
    tiny: SimpleNamespace, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    saved = tiny.model().to(torch.bfloat16)
    saved.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model, loaded = load_base(tmp_path)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert not model.training
    assert not any(weight.requires_grad for weight in model.parameters())
    assert torch.equal(model.lm_head.weight, saved.lm_head.weight.float())
    assert loaded("ab")["input_ids"] == tokenizer("ab")["input_ids"]


@pytest.mark.parametrize(
    ("removed", "message"),
    [
        ("config.json", r"it has no config\.json"),
        ("model.safetensors", r"has no \*.safetensors"),
        ("tokenizer*", "has no tokenizer that can be loaded"),
    ],
)
def test_an_incomplete_folder_is_refused(removed: str, message: str, tiny_base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_base, tmp_path / "base")
    (folder / "pytorch_model.bin").touch()
    for file in folder.glob(removed):
        file.unlink()
    with pytest.raises(InputError, match=message):
        load_base(folder)


def test_damaged_weights_are_refused(tiny_base: Path, tmp_path: Path) -> None:
    file = shutil.copytree(tiny_base, tmp_path / "base") / "model.safetensors"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(InputError, match="cannot be loaded"):
        load_base(tmp_path / "base")


def test_a_family_whose_linears_are_not_known_is_refused(tmp_path: Path) -> None:
    GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=9, n_positions=8)).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="model family 'gpt2' is not supported"):
        load_base(tmp_path)
