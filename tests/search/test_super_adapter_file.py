import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from adaptare.core import InputError, StorageError
from adaptare.search.super_adapter.file import load_super_adapter, save_super_adapter
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.super_adapter.quantised import MaskedElasticLinear


def test_what_was_saved_computes_the_same(
    tiny: SimpleNamespace, trained: SuperAdapter, ids: torch.Tensor, tmp_path: Path
) -> None:
    save_super_adapter(trained, tmp_path)
    loaded = load_super_adapter(tmp_path, tiny.model())
    with torch.no_grad():
        assert torch.equal(loaded.model(ids).logits, trained.model(ids).logits)


def test_the_space_and_alpha_come_with_the_files(tiny: SimpleNamespace, tmp_path: Path) -> None:
    model = tiny.model()
    saved = SuperAdapter(model, tiny.space(model, "blocks"), alpha=3.0, seed=0)
    save_super_adapter(saved, tmp_path)
    loaded = load_super_adapter(tmp_path, tiny.model())
    assert (loaded.space, loaded.alpha) == (saved.space, saved.alpha)


def test_the_base_model_is_not_saved(trained: SuperAdapter, tmp_path: Path) -> None:
    save_super_adapter(trained, tmp_path)
    sizes = {file.name: file.stat().st_size for file in tmp_path.iterdir()}
    assert sorted(sizes) == ["super_adapter.json", "super_adapter.safetensors"]
    assert sizes["super_adapter.safetensors"] < 4 * sum(each.numel() for each in trained.state().values()) + 4096


def test_another_base_is_refused(tiny: SimpleNamespace, trained: SuperAdapter, tmp_path: Path) -> None:
    save_super_adapter(trained, tmp_path)
    with pytest.raises(InputError, match="load the base model it was trained on"):
        load_super_adapter(tmp_path, tiny.model(layers=3))


def test_a_folder_without_one_is_refused(tiny: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no super-adapter"):
        load_super_adapter(tmp_path, tiny.model())


def test_files_of_a_later_version_are_refused(tiny: SimpleNamespace, trained: SuperAdapter, tmp_path: Path) -> None:
    save_super_adapter(trained, tmp_path)
    file = tmp_path / "super_adapter.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "schema": 5}))
    with pytest.raises(InputError, match="has schema 5, this version reads up to 4"):
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


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_finite_numbers_are_refused(
    tiny: SimpleNamespace, trained: SuperAdapter, tmp_path: Path, value: float
) -> None:
    name, tensor = next(iter(trained.state().items()))
    tensor[0, 0] = value
    save_super_adapter(trained, tmp_path)
    model = tiny.model()
    with pytest.raises(InputError, match=f"'{re.escape(name)}' has NaN or infinite values; train again"):
        load_super_adapter(tmp_path, model)
    assert not any(weight.requires_grad for weight in model.parameters())


def test_an_alpha_that_is_no_finite_number_is_refused(
    tiny: SimpleNamespace, trained: SuperAdapter, tmp_path: Path
) -> None:
    save_super_adapter(trained, tmp_path)
    file = tmp_path / "super_adapter.json"
    file.write_text(file.read_text().replace('"alpha": 32.0', '"alpha": NaN'))
    with pytest.raises(InputError, match="alpha must be a number above 0, not nan"):
        load_super_adapter(tmp_path, tiny.model())


@pytest.mark.parametrize(("was", "becomes"), [("[0, 2, 4]", "[0, 2, NaN]"), ("[0, 2, 4]", "[0, 2, Infinity]")])
def test_ranks_that_are_no_finite_numbers_are_refused(
    tiny: SimpleNamespace, trained: SuperAdapter, tmp_path: Path, was: str, becomes: str
) -> None:
    save_super_adapter(trained, tmp_path)
    file = tmp_path / "super_adapter.json"
    text = json.dumps(json.loads(file.read_text()))
    assert was in text
    file.write_text(text.replace(was, becomes, 1))
    with pytest.raises(InputError, match=r"holds no super-adapter that .*; super_adapter\.json: "):
        load_super_adapter(tmp_path, tiny.model())


def test_an_alpha_beyond_all_floats_is_refused(tiny: SimpleNamespace, trained: SuperAdapter, tmp_path: Path) -> None:
    save_super_adapter(trained, tmp_path)
    file = tmp_path / "super_adapter.json"
    file.write_text(file.read_text().replace('"alpha": 32.0', f'"alpha": {10**400}'))
    with pytest.raises(InputError, match=r"holds no super-adapter that .*; super_adapter\.json: "):
        load_super_adapter(tmp_path, tiny.model())


def test_weights_that_are_infinite_in_32_bits_are_refused(
    tiny: SimpleNamespace, trained: SuperAdapter, tmp_path: Path
) -> None:
    save_super_adapter(trained, tmp_path)
    file = tmp_path / "super_adapter.safetensors"
    tensors = {name: tensor.double() for name, tensor in load_file(file).items()}
    tensors["model.layers.0.mlp.up_proj.A"][0, 0] = 1e300
    save_file(tensors, file)
    with pytest.raises(InputError, match=r"up_proj\.A' has NaN or infinite values"):
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
