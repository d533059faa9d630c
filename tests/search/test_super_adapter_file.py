import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from adaptare.core import InputError, StorageError
from adaptare.search.super_adapter.file import load_super_adapter, save_super_adapter
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.super_adapter.quantised import MaskedElasticLinear


def test_what_was_saved_computes_the_same(tiny: SimpleNamespace, ids: torch.Tensor, tmp_path: Path) -> None:
    model = tiny.model()
    saved = SuperAdapter(model, tiny.space(model, "blocks"), alpha=3.0, seed=0)
    tiny.disturb(saved)
    save_super_adapter(saved, tmp_path)
    loaded = load_super_adapter(tmp_path, tiny.model())
    assert (loaded.space, loaded.alpha) == (saved.space, saved.alpha)
    with torch.no_grad():
        assert torch.equal(loaded.model(ids).logits, saved.model(ids).logits)


def test_another_base_is_refused(tiny: SimpleNamespace, trained: SuperAdapter, tmp_path: Path) -> None:
    save_super_adapter(trained, tmp_path)
    with pytest.raises(InputError, match="load the base model it was trained on"):
        load_super_adapter(tmp_path, tiny.model(layers=3))


def test_a_folder_without_one_is_refused(tiny: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no super-adapter"):
        load_super_adapter(tmp_path, tiny.model())


def test_damaged_weights_leave_the_model_without_adapters(
    tiny: SimpleNamespace, trained: SuperAdapter, tmp_path: Path
) -> None:
    save_super_adapter(trained, tmp_path)
    file = tmp_path / "super_adapter.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    model = tiny.model()
    with pytest.raises(InputError, match="cannot be read"):
        load_super_adapter(tmp_path, model)
    assert not any(weight.requires_grad for weight in model.parameters())


@pytest.mark.parametrize("value", [float("nan"), 1e300])
def test_weights_that_are_not_finite_in_32_bits_are_refused(
    tiny: SimpleNamespace, trained: SuperAdapter, tmp_path: Path, value: float
) -> None:
    save_super_adapter(trained, tmp_path)
    file, model = tmp_path / "super_adapter.safetensors", tiny.model()
    tensors = {name: tensor.double() for name, tensor in load_file(file).items()}
    tensors["model.layers.0.mlp.up_proj.A"][0, 0] = value
    save_file(tensors, file)
    with pytest.raises(InputError, match=r"up_proj\.A' has NaN or infinite values; train again"):
        load_super_adapter(tmp_path, model)
    assert not any(weight.requires_grad for weight in model.parameters())


@pytest.mark.parametrize(
    ("was", "becomes", "message"),
    [
        ('"alpha": 32.0', '"alpha": NaN', "alpha must be a number above 0, not nan"),
        ('"alpha": 32.0', f'"alpha": {10**400}', r"holds no super-adapter that .*; super_adapter\.json: "),
        ("[0, 2, 4]", "[0, 2, NaN]", r"holds no super-adapter that .*; super_adapter\.json: "),
        ('"schema": 4', '"schema": 5', "has schema 5, this version reads up to 4"),
    ],
)
def test_a_description_that_makes_no_sense_is_refused(
    tiny: SimpleNamespace, trained: SuperAdapter, tmp_path: Path, was: str, becomes: str, message: str
) -> None:
    save_super_adapter(trained, tmp_path)
    file = tmp_path / "super_adapter.json"
    text = json.dumps(json.loads(file.read_text()))
    assert was in text
    file.write_text(text.replace(was, becomes, 1))
    with pytest.raises(InputError, match=message):
        load_super_adapter(tmp_path, tiny.model())


def test_a_folder_that_cannot_be_made_is_a_storage_error(trained: SuperAdapter, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        save_super_adapter(trained, tmp_path / "file" / "folder")


def test_other_layers_than_those_trained_are_refused(tiny: SimpleNamespace, tmp_path: Path) -> None:
    model = tiny.model()
    masked = SuperAdapter(model, tiny.space(model), seed=0, layer=MaskedElasticLinear)
    save_super_adapter(masked, tmp_path)
    assert load_super_adapter(tmp_path, tiny.model(), layer=MaskedElasticLinear).layer is MaskedElasticLinear
    with pytest.raises(InputError, match="was trained with MaskedElasticLinear, not ElasticLinear"):
        load_super_adapter(tmp_path, tiny.model())
