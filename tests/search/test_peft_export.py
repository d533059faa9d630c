import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from exports import exported
from transformers import AutoModelForCausalLM

from adaptare.core import InputError
from adaptare.profiler import Configuration, read_peft
from adaptare.search.super_adapter.model import SuperAdapter

Q = "model.layers.{}.self_attn.q_proj"
DOWN = "model.layers.{}.mlp.down_proj"
CONFIGS = {
    "mixed": {Q.format(1): 2, Q.format(11): 4, DOWN.format(0): 1, DOWN.format(11): 4},
    "one-of-eleven": {Q.format(1): 3},
    "everywhere": {path.format(layer): 1 + layer % 4 for layer in range(12) for path in (Q, DOWN)},
}
STOCK = """
import sys, numpy, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
base, ids, *folders = sys.argv[1:]
found = {}
for folder in folders:
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder).eval()
    with torch.no_grad():
        found[folder] = model(torch.tensor(numpy.load(ids))).logits.numpy()
numpy.savez(ids + ".logits.npz", **found)
assert not any(name.startswith("adaptare") for name in sys.modules)
"""


def logits(super_adapter: SuperAdapter, config: Configuration, ids: torch.Tensor) -> torch.Tensor:
    with super_adapter.activated(config), torch.no_grad():
        found: torch.Tensor = super_adapter.model(ids).logits
    return found


@pytest.fixture
def deep(tiny: SimpleNamespace) -> SuperAdapter:
    """Twelve layers, so that layers.1 and layers.11 must be told apart."""
    model = tiny.model(layers=12)
    super_adapter = SuperAdapter(model, tiny.space(model), alpha=1.0, seed=0)
    tiny.disturb(super_adapter)
    return super_adapter


@pytest.mark.slow
def test_stock_peft_in_a_new_process_computes_the_same(deep: SuperAdapter, ids: torch.Tensor, tmp_path: Path) -> None:
    with deep.lifted():
        deep.model.save_pretrained(tmp_path / "base")
    np.save(tmp_path / "ids.npy", ids.numpy())
    for name, ranks in CONFIGS.items():
        exported(deep, Configuration.of(ranks), tmp_path / name, base_name="base")
    arguments = [str(tmp_path / name) for name in ("base", "ids.npy", *CONFIGS)]
    done = subprocess.run([sys.executable, "-c", STOCK, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "ids.npy.logits.npz") as found:
        for name, ranks in CONFIGS.items():
            expected = logits(deep, Configuration.of(ranks), ids).numpy()
            assert np.abs(found[str(tmp_path / name)] - expected).max() < 1e-4
            assert np.abs(expected - logits(deep, Configuration(), ids).numpy()).max() > 1e-2


def test_the_config_file_says_what_peft_would(deep: SuperAdapter, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    config = Configuration.of(CONFIGS["mixed"])
    exported(deep, config, tmp_path / "adapter", base_name="some/base")
    loaded = peft.LoraConfig.from_pretrained(str(tmp_path / "adapter"))
    assert (loaded.task_type, loaded.base_model_name_or_path, loaded.bias) == ("CAUSAL_LM", "some/base", "none")
    written = set(json.loads((tmp_path / "adapter" / "adapter_config.json").read_text()))
    assert written <= set(peft.LoraConfig().to_dict())


def test_what_was_exported_reads_back_as_its_config(deep: SuperAdapter, tmp_path: Path) -> None:
    config = Configuration.of(CONFIGS["mixed"])
    exported(deep, config, tmp_path / "adapter", base_name="base")
    assert read_peft(tmp_path / "adapter", deep.shape) == config
    (tmp_path / "adapter" / "adapter_model.safetensors").unlink()
    assert read_peft(tmp_path / "adapter" / "adapter_config.json", deep.shape) == config


def test_a_config_without_sites_is_refused(deep: SuperAdapter, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="without any site"):
        exported(deep, Configuration(), tmp_path / "adapter", base_name="base")
    assert not list(tmp_path.iterdir())


def test_a_rank_above_the_trained_one_is_refused(deep: SuperAdapter, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be 0 to 4 in this super-adapter, not 8"):
        exported(deep, Configuration.of({Q.format(0): 8}), tmp_path / "adapter", base_name="base")


def test_a_base_model_is_not_overwritten(deep: SuperAdapter, tmp_path: Path) -> None:
    deep.model.config.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="is no earlier export"):
        exported(deep, Configuration.of(CONFIGS["mixed"]), tmp_path, base_name="base", kind="merged")


@pytest.mark.parametrize("ranks", [CONFIGS["mixed"], {}])
def test_merged_model_computes_the_same(
    deep: SuperAdapter, ids: torch.Tensor, tmp_path: Path, ranks: dict[str, int]
) -> None:
    config = Configuration.of(ranks)
    exported(deep, config, tmp_path / "merged", base_name="base", kind="merged", is_read=False)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    with torch.no_grad():
        assert (merged(ids).logits - logits(deep, config, ids)).abs().max() < 1e-4


def test_merging_leaves_the_model_in_memory_alone(deep: SuperAdapter, ids: torch.Tensor, tmp_path: Path) -> None:
    before = logits(deep, Configuration(), ids)
    exported(deep, Configuration.of(CONFIGS["mixed"]), tmp_path / "merged", kind="merged", is_read=False)
    assert torch.equal(logits(deep, Configuration(), ids), before)
    assert (deep.active == deep.largest).all()
