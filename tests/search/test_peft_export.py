import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from exports import exported
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM

from adaptare.core import InputError
from adaptare.profiler import Configuration, read_peft
from adaptare.search.super_adapter.model import SuperAdapter

Q = "model.layers.{}.self_attn.q_proj"
DOWN = "model.layers.{}.mlp.down_proj"
CONFIG = Configuration.of({Q.format(1): 2, Q.format(11): 4, DOWN.format(0): 1, DOWN.format(11): 3})


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


def test_stock_peft_computes_the_same(
    deep: SuperAdapter, tiny: SimpleNamespace, ids: torch.Tensor, tmp_path: Path
) -> None:
    exported(deep, CONFIG, tmp_path / "adapter", base_name="base", is_read=False)
    stock = PeftModel.from_pretrained(tiny.model(layers=12), str(tmp_path / "adapter")).eval()
    expected = logits(deep, CONFIG, ids)
    with torch.no_grad():
        assert (stock(ids).logits - expected).abs().max() < 1e-4
    assert (expected - logits(deep, Configuration(), ids)).abs().max() > 1e-2


def test_what_was_exported_is_a_config_of_peft_and_reads_back(deep: SuperAdapter, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    exported(deep, CONFIG, folder, base_name="some/base", is_read=False)
    loaded = LoraConfig.from_pretrained(str(folder))
    assert (loaded.task_type, loaded.base_model_name_or_path, loaded.bias) == ("CAUSAL_LM", "some/base", "none")
    assert set(json.loads((folder / "adapter_config.json").read_text())) <= set(LoraConfig().to_dict())
    assert read_peft(folder, deep.shape) == CONFIG


def test_a_config_that_is_no_adapter_is_refused(deep: SuperAdapter, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="without any site"):
        exported(deep, Configuration(), tmp_path / "adapter")
    with pytest.raises(InputError, match="must be 0 to 4 in this super-adapter, not 8"):
        exported(deep, Configuration.of({Q.format(0): 8}), tmp_path / "adapter")
    assert not list(tmp_path.iterdir())


def test_a_merged_model_computes_the_same_and_that_in_memory_is_left_alone(
    deep: SuperAdapter, ids: torch.Tensor, tmp_path: Path
) -> None:
    before = logits(deep, Configuration(), ids)
    exported(deep, CONFIG, tmp_path / "merged", base_name="base", kind="merged", is_read=False)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    with torch.no_grad():
        assert (merged(ids).logits - logits(deep, CONFIG, ids)).abs().max() < 1e-4
    assert torch.equal(logits(deep, Configuration(), ids), before)
    assert (deep.active == deep.largest).all()
