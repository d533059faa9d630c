"""Adapter folders, as PEFT saves them and as people write them, against what PEFT itself makes of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, PeftType, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from adaptare.core import InputError
from adaptare.profiler import Configuration, ModelShape, read_peft
from adaptare.profiler.workloads.peft_folder import OTHER_KINDS, OTHER_SETTINGS, peft_arguments

CONFIG = LlamaConfig(
    num_hidden_layers=12,
    hidden_size=16,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=24,
    vocab_size=40,
)
SHAPE = ModelShape.from_config(CONFIG)
QUERY = "model.layers.{}.self_attn.q_proj"
DOWN = "model.layers.{}.mlp.down_proj"

pytestmark = [
    # PEFT asks transformers under a name that transformers has deprecated since.
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
    # PEFT says so of a base that exists only in memory, whose config it cannot look up.
    pytest.mark.filterwarnings("ignore:Could not find a config file:UserWarning"),
]


def base_model() -> PreTrainedModel:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(CONFIG)


def wrapped(model: PeftModel) -> dict[str, tuple[int, float]]:
    """Module path -> (rank, scaling) of what PEFT wrapped."""
    return {
        name.removeprefix("base_model.model."): (module.r["default"], module.scaling["default"])
        for name, module in model.named_modules()
        if hasattr(module, "lora_A")
    }


def ranks_by_peft(**arguments: Any) -> dict[str, int]:
    model = get_peft_model(base_model(), LoraConfig(**arguments))
    return {path: rank for path, (rank, _) in wrapped(model).items()}


def config_of(tmp_path: Path, **settings: Any) -> Path:
    """A config alone, as people write it by hand."""
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps({"peft_type": "LORA", "r": 3, **settings}), encoding="utf-8")
    return file


ADAPTERS: dict[str, Callable[[], dict[str, int]]] = {
    "one site": lambda: {QUERY.format(3): 5},
    "layer 1 beside layer 11": lambda: {QUERY.format(1): 2, QUERY.format(11): 7},
    "layer 1 without layer 11": lambda: {QUERY.format(1): 4, DOWN.format(1): 4},
    "layer 11 without layer 1": lambda: {QUERY.format(11): 4, DOWN.format(10): 1},
    "every site, ranks in turn": lambda: {site.path: 1 + n % 5 for n, site in enumerate(SHAPE.sites)},
    "every site, one rank": lambda: {site.path: 6 for site in SHAPE.sites},
    "every query but one": lambda: {QUERY.format(layer): 3 for layer in range(12) if layer != 1},
    "one kind per layer": lambda: {path.format(layer): 2 + layer for layer in range(6) for path in (QUERY, DOWN)},
}


@pytest.mark.parametrize("name", ADAPTERS)
def test_what_peft_saves_is_read_back(name: str, tmp_path: Path) -> None:
    config = Configuration.of(ADAPTERS[name]())
    arguments = peft_arguments(config, {path: 1.0 for path, _ in config.ranks})
    get_peft_model(AutoModelForCausalLM.from_config(CONFIG), LoraConfig(**arguments)).save_pretrained(tmp_path)
    assert read_peft(tmp_path, SHAPE) == config


@pytest.mark.parametrize("name", ADAPTERS)
def test_what_peft_saves_is_read_back_without_its_weights(name: str, tmp_path: Path) -> None:
    config = Configuration.of(ADAPTERS[name]())
    arguments = peft_arguments(config, {path: 1.0 for path, _ in config.ranks})
    get_peft_model(AutoModelForCausalLM.from_config(CONFIG), LoraConfig(**arguments)).save_pretrained(tmp_path)
    (tmp_path / "adapter_model.safetensors").unlink()
    assert read_peft(tmp_path / "adapter_config.json", SHAPE) == config


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["q_proj", "v_proj"]},
        {"target_modules": ["self_attn.q_proj", "down_proj"]},
        {"target_modules": ["up_proj"], "exclude_modules": None, "rank_pattern": {}},
        {"target_modules": r".*layers\.1\..*_proj"},
        {"target_modules": r"model\.layers\.\d+\.mlp\.(up|down)_proj"},
        {"target_modules": "all-linear"},
        {"target_modules": "All-Linear"},
        {"target_modules": "all-linear", "exclude_modules": ["down_proj", "layers.1.self_attn.q_proj"]},
        {"target_modules": ["q_proj", "k_proj"], "exclude_modules": r".*\.1\d\..*"},
        {"target_modules": ["q_proj"], "exclude_modules": [QUERY.format(1)]},
        {"target_modules": ["q_proj"], "layers_to_transform": [1, 11]},
        {"target_modules": ["q_proj"], "layers_to_transform": 1},
        {"target_modules": ["q_proj"], "layers_to_transform": []},
        {"target_modules": ["v_proj", QUERY.format(5)], "layers_to_transform": [0]},
        {"target_modules": ["q_proj", "k_proj"], "rank_pattern": {"k_proj": 7}},
        {"target_modules": ["q_proj"], "rank_pattern": {"layers.1.self_attn.q_proj": 7}},
        {"target_modules": ["q_proj"], "rank_pattern": {"1.self_attn.q_proj": 7}},
        {"target_modules": ["q_proj"], "rank_pattern": {r"layers\.1\.self_attn\.q_proj": 5, "q_proj": 6}},
        {"target_modules": ["q_proj"], "rank_pattern": {"q_proj": 6, QUERY.format(1): 5}},
        {"target_modules": ["q_proj", "o_proj"], "rank_pattern": {r".*\.1\d\..*": 9, "o_proj": 4}},
    ],
    ids=str,
)
def test_settings_without_weights_are_understood_as_peft_understands_them(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    assert read_peft(config_of(tmp_path, **settings), SHAPE).by_path == ranks_by_peft(r=3, **settings)


def test_weights_of_other_sites_or_ranks_than_the_settings_are_refused(tmp_path: Path) -> None:
    model = get_peft_model(AutoModelForCausalLM.from_config(CONFIG), LoraConfig(r=2, target_modules=["q_proj"]))
    model.save_pretrained(tmp_path)
    config_of(tmp_path, target_modules=["v_proj"], r=5)
    with pytest.raises(InputError, match=r"disagree on 24 linears .*q_proj has no adapter by the config and rank 2"):
        read_peft(tmp_path, SHAPE)


def test_weights_of_a_wider_base_are_refused(tmp_path: Path) -> None:
    wider = LlamaConfig(**{**CONFIG.to_dict(), "hidden_size": 32})
    model = get_peft_model(AutoModelForCausalLM.from_config(wider), LoraConfig(r=2, target_modules=["q_proj"]))
    model.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"adapter of another base model: .* is 2 x 32, this one is 16 wide there"):
        read_peft(tmp_path, SHAPE)


def test_weights_of_a_deeper_base_are_refused(tmp_path: Path) -> None:
    deeper = LlamaConfig(**{**CONFIG.to_dict(), "num_hidden_layers": 13})
    model = get_peft_model(AutoModelForCausalLM.from_config(deeper), LoraConfig(r=2, target_modules=[QUERY.format(12)]))
    model.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"another base model: .*layers\.12\..* this one is without such a linear"):
        read_peft(tmp_path, SHAPE)


def test_weights_of_an_embedding_are_refused(tmp_path: Path) -> None:
    model = get_peft_model(AutoModelForCausalLM.from_config(CONFIG), LoraConfig(r=2, target_modules=["embed_tokens"]))
    model.save_pretrained(tmp_path, save_embedding_layers=False)
    with pytest.raises(InputError, match=r"embed_tokens.* belongs to no low-rank adapter of a linear"):
        read_peft(tmp_path, SHAPE)


def test_half_a_weight_file_is_refused(tmp_path: Path) -> None:
    model = get_peft_model(AutoModelForCausalLM.from_config(CONFIG), LoraConfig(r=2, target_modules=["q_proj"]))
    model.save_pretrained(tmp_path)
    weights = tmp_path / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"adapter_model.safetensors cannot be read, it may be incomplete"):
        read_peft(tmp_path, SHAPE)


def test_settings_that_match_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="its target modules match no linear of the base model"):
        read_peft(config_of(tmp_path, target_modules=["query_key_value"]), SHAPE)


def test_settings_with_a_rank_beyond_the_layer_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"rank of .*q_proj must be 0 to 16 in this base model, not 64"):
        read_peft(config_of(tmp_path, target_modules=["q_proj"], r=64), SHAPE)


def saved(folder: Path, **settings: Any) -> Path:
    """A folder that PEFT itself has saved."""
    arguments = {"r": 2, "target_modules": ["q_proj"], **settings}
    get_peft_model(AutoModelForCausalLM.from_config(CONFIG), LoraConfig(**arguments)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("with_weights", [True, False])
def test_a_rank_stabilised_adapter_is_a_lora(tmp_path: Path, with_weights: bool) -> None:
    saved(tmp_path, use_rslora=True, lora_alpha=16)
    if not with_weights:
        (tmp_path / "adapter_model.safetensors").unlink()
    assert read_peft(tmp_path / "adapter_config.json", SHAPE) == Configuration.uniform(SHAPE, 2, kinds=("q_proj",))


@pytest.mark.parametrize("with_weights", [True, False])
def test_a_dora_is_read_as_one(tmp_path: Path, with_weights: bool) -> None:
    saved(tmp_path, use_dora=True)
    if not with_weights:
        (tmp_path / "adapter_model.safetensors").unlink()
    found = read_peft(tmp_path / "adapter_config.json", SHAPE)
    assert found.kind == "dora"
    assert found.by_path == {QUERY.format(layer): 2 for layer in range(12)}


def test_a_dora_without_the_lengths_of_its_rows_is_refused(tmp_path: Path) -> None:
    settings = json.loads((saved(tmp_path) / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**settings, "use_dora": True}))
    with pytest.raises(InputError, match=r"is incomplete: .*q_proj lacks a part of its DoRA"):
        read_peft(tmp_path, SHAPE)


def test_lengths_of_rows_in_a_plain_lora_are_refused(tmp_path: Path) -> None:
    settings = json.loads((saved(tmp_path, use_dora=True) / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**settings, "use_dora": False}))
    with pytest.raises(InputError, match=r"lora_magnitude_vector' belongs to no low-rank adapter of a linear"):
        read_peft(tmp_path, SHAPE)


@pytest.mark.parametrize(
    ("kind", "advice"),
    [
        ("IA3", r"it scales activations by vectors and has no rank; merge it with PEFT's merge_and_unload"),
        ("LOHA", r"element by element, and has no A and B; merge it"),
        ("VERA", r"all its linears share one A and B .*; merge it"),
        ("ADALORA", r"one more product in every call; merge it"),
        ("PROMPT_TUNING", r"measure the base with so many more tokens"),
        ("PREFIX_TUNING", r"measure the base with more positions"),
        ("BOFT", r"most others cost nothing once they are merged: merge it"),
    ],
)
def test_another_kind_of_adapter_is_refused_with_advice(tmp_path: Path, kind: str, advice: str) -> None:
    with pytest.raises(InputError, match=f"peft_type is '{kind}'; only LORA .* is measured: .*{advice}"):
        read_peft(config_of(tmp_path, peft_type=kind), SHAPE)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"modules_to_save": ["lm_head"]}, "modules_to_save is set: whole modules were trained beside the adapter"),
        ({"trainable_token_indices": [1, 2]}, "trainable_token_indices is set: embeddings were trained beside"),
        ({"lora_bias": True}, "lora_bias is set: its B has a bias, which is one more addition in every call; measure"),
        ({"layer_replication": [(0, 2), (0, 2)]}, "layer_replication is set: it is of a model with repeated layers"),
        ({"bias": "all"}, "bias is 'all': biases of the base were trained beside the adapter; save those"),
        ({"bias": "lora_only"}, "bias is 'lora_only': biases of the base were trained"),
    ],
    ids=str,
)
def test_what_peft_trains_beside_a_lora_is_refused_with_advice(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_peft(config_of(tmp_path, target_modules=["q_proj"], **settings), SHAPE)


@pytest.mark.parametrize("name", OTHER_SETTINGS)
def test_every_setting_that_is_refused_is_one_of_peft(name: str) -> None:
    assert hasattr(LoraConfig(), name)


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_every_kind_that_is_refused_is_one_of_peft(kind: str) -> None:
    assert kind in set(PeftType)


def test_a_list_of_settings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("[]", encoding="utf-8")
    with pytest.raises(InputError, match="must be one JSON object; save the adapter again"):
        read_peft(tmp_path, SHAPE)


def test_a_folder_without_settings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is no PEFT folder: adapter_config.json cannot be read \(No such"):
        read_peft(tmp_path, SHAPE)


def test_a_file_instead_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match=r"is no PEFT folder: .*\(Not a directory\)"):
        read_peft(tmp_path / "file", SHAPE)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe"], ids=["cut off", "no text"])
def test_settings_that_are_no_json_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_bytes(content)
    with pytest.raises(InputError, match=r"adapter_config.json is not JSON"):
        read_peft(tmp_path, SHAPE)


@pytest.mark.parametrize("settings", [{"target_modules": "*.q_proj"}, {"target_modules": ["q_proj"], "r": "many"}])
def test_settings_that_peft_could_not_read_are_refused(tmp_path: Path, settings: dict[str, object]) -> None:
    content = json.dumps({"peft_type": "LORA", **settings})
    (tmp_path / "adapter_config.json").write_text(content, encoding="utf-8")
    with pytest.raises(
        InputError, match=r"target_modules or patterns cannot be understood|r must be whole numbers above 0"
    ):
        read_peft(tmp_path / "adapter_config.json", SHAPE)


def test_a_folder_whose_weights_are_missing_is_refused_and_its_config_is_not(tmp_path: Path) -> None:
    weights = saved(tmp_path) / "adapter_model.safetensors"
    weights.unlink()
    with pytest.raises(InputError, match=r"has no adapter_model\.safetensors; .* or name its adapter_config\.json"):
        read_peft(tmp_path, SHAPE)
    weights.symlink_to(tmp_path / "moved away")
    with pytest.raises(InputError, match=r"has no adapter_model\.safetensors \(it is a link to .*moved away.*\);"):
        read_peft(tmp_path, SHAPE)
    assert len(read_peft(tmp_path / "adapter_config.json", SHAPE).ranks) == 12


@pytest.mark.parametrize(
    "settings",
    [
        '"lora_alpha": NaN',
        '"lora_alpha": Infinity',
        '"lora_alpha": 1e999',
        '"lora_alpha": "many"',
        '"lora_alpha": 8, "alpha_pattern": {"q_proj": -Infinity}',
    ],
)
@pytest.mark.parametrize("name", ["", "adapter_config.json"])
def test_a_scale_that_is_no_finite_number_is_refused(tmp_path: Path, settings: str, name: str) -> None:
    file = saved(tmp_path) / "adapter_config.json"
    content = {**json.loads(file.read_text()), "lora_alpha": None, "alpha_pattern": {}}
    text = json.dumps(content).replace('"alpha_pattern": {}', '"x": 1').replace('"lora_alpha": null', settings)
    file.write_text(text)
    with pytest.raises(
        InputError, match=r"adapter_config\.json: (lora_alpha|alpha_pattern) must be finite numbers, not"
    ):
        read_peft(tmp_path / name, SHAPE)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_weights_that_are_no_finite_numbers_are_refused(tmp_path: Path, value: float, dtype: torch.dtype) -> None:
    file = saved(tmp_path) / "adapter_model.safetensors"
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(file).items()}
    name = f"base_model.model.{QUERY.format(7)}.lora_B.weight"
    tensors[name][3, 1] = torch.finfo(dtype).max
    save_file(tensors, file)
    assert len(read_peft(tmp_path, SHAPE).ranks) == 12
    tensors[name][3, 1] = value
    save_file(tensors, file)
    with pytest.raises(InputError, match=r"layers\.7\..*q_proj\.lora_B\.weight' has NaN or infinite values"):
        read_peft(tmp_path, SHAPE)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "4.5", "0", "true", '"8"'])
@pytest.mark.parametrize("setting", ['"r": {}', '"rank_pattern": {{"q_proj": {}}}'])
@pytest.mark.parametrize("name", ["", "adapter_config.json"])
def test_a_rank_that_is_no_whole_number_is_refused(tmp_path: Path, setting: str, number: str, name: str) -> None:
    file = saved(tmp_path) / "adapter_config.json"
    content = json.loads(file.read_text())
    content = {key: value for key, value in content.items() if key not in ("r", "rank_pattern")}
    file.write_text(json.dumps({"x": 1, **content}).replace('"x": 1', setting.format(number)))
    with pytest.raises(InputError, match=r"adapter_config\.json: (r|rank_pattern) must be whole numbers above 0, not"):
        read_peft(tmp_path / name, SHAPE)


def test_an_alpha_beyond_all_floats_is_refused(tmp_path: Path) -> None:
    file = saved(tmp_path) / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "lora_alpha": 10**400}))
    with pytest.raises(InputError, match=r"lora_alpha must be finite numbers, not 1000"):
        read_peft(tmp_path, SHAPE)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_weights_of_eight_bits_are_checked_too(tmp_path: Path, dtype: torch.dtype) -> None:
    file = saved(tmp_path) / "adapter_model.safetensors"
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(file).items()}
    name = f"base_model.model.{QUERY.format(7)}.lora_B.weight"
    whole = torch.full_like(tensors[name].float(), torch.finfo(dtype).max)
    save_file({**tensors, name: whole.to(dtype)}, file)
    assert len(read_peft(tmp_path, SHAPE).ranks) == 12
    whole[3, 1] = float("nan")
    save_file({**tensors, name: whole.to(dtype)}, file)
    with pytest.raises(InputError, match=r"layers\.7\..*q_proj\.lora_B\.weight' has NaN or infinite values"):
        read_peft(tmp_path, SHAPE)


@pytest.mark.parametrize("replaced", ["folder", "link to nothing"])
def test_weights_that_are_no_file_are_refused(tmp_path: Path, replaced: str) -> None:
    file = saved(tmp_path) / "adapter_model.safetensors"
    file.unlink()
    file.mkdir() if replaced == "folder" else file.symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"adapter_model\.safetensors"):
        read_peft(tmp_path, SHAPE)
