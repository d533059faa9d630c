"""Adapter folders, as PEFT saves them and as people write them, against what PEFT itself makes of them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, PeftType, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig

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
WEIGHT = f"base_model.model.{QUERY.format(7)}.lora_B.weight"

pytestmark = [
    # PEFT asks transformers under a name that transformers has deprecated since.
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
    # PEFT says so of a base that exists only in memory, whose config it cannot look up.
    pytest.mark.filterwarnings("ignore:Could not find a config file:UserWarning"),
]


def by_peft(config: LlamaConfig = CONFIG, device: str = "meta", **arguments: Any) -> PeftModel:
    """A base with an adapter that PEFT made of arguments."""
    with torch.device(device):
        return get_peft_model(AutoModelForCausalLM.from_config(config), LoraConfig(**arguments))


def wrapped(model: PeftModel) -> dict[str, tuple[int, float]]:
    """Module path -> (rank, scaling) of what PEFT wrapped."""
    return {
        name.removeprefix("base_model.model."): (module.r["default"], module.scaling["default"])
        for name, module in model.named_modules()
        if hasattr(module, "lora_A")
    }


def saved(folder: Path, config: LlamaConfig = CONFIG, **settings: Any) -> Path:
    """A folder that PEFT itself has saved."""
    model = by_peft(config, "cpu", **{"r": 2, "target_modules": ["q_proj"], **settings})
    model.save_pretrained(folder, save_embedding_layers=False)
    return folder


def config_of(tmp_path: Path, **settings: Any) -> Path:
    """A config alone, as people write it by hand."""
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps({"peft_type": "LORA", "r": 3, **settings}), encoding="utf-8")
    return file


ADAPTERS: dict[str, dict[str, int]] = {
    "layer 1 beside layer 11": {QUERY.format(1): 2, QUERY.format(11): 7},
    "layer 1 without layer 11": {QUERY.format(1): 4, DOWN.format(1): 4},
    "layer 11 without layer 1": {QUERY.format(11): 4, DOWN.format(10): 1},
    "every site, ranks in turn": {site.path: 1 + n % 5 for n, site in enumerate(SHAPE.sites)},
    "every site, one rank": {site.path: 6 for site in SHAPE.sites},
}


@pytest.mark.parametrize("name", ADAPTERS)
def test_peft_builds_and_saves_exactly_the_sites_with_their_ranks_and_scales(name: str, tmp_path: Path) -> None:
    config = Configuration.of(ADAPTERS[name])
    scales = {path: 0.25 * (1 + position % 3) for position, (path, _) in enumerate(config.ranks)}
    model = by_peft(device="cpu", **peft_arguments(config, scales))
    assert wrapped(model) == {path: (rank, pytest.approx(scales[path], rel=1e-12)) for path, rank in config.ranks}
    assert config.adapter_parameters(SHAPE) == model.get_nb_trainable_parameters()[0]
    model.save_pretrained(tmp_path)
    assert read_peft(tmp_path, SHAPE) == config
    (tmp_path / "adapter_model.safetensors").unlink()
    assert read_peft(tmp_path / "adapter_config.json", SHAPE) == config


def test_an_adapter_without_sites_cannot_be_written() -> None:
    with pytest.raises(InputError, match="an adapter without any site cannot be written for PEFT"):
        peft_arguments(Configuration(), {})


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["self_attn.q_proj", "down_proj"], "exclude_modules": None, "rank_pattern": {}},
        {"target_modules": r"model\.layers\.\d+\.mlp\.(up|down)_proj"},
        {"target_modules": "All-Linear"},
        {"target_modules": "all-linear", "exclude_modules": ["down_proj", "layers.1.self_attn.q_proj"]},
        {"target_modules": ["q_proj", "k_proj"], "exclude_modules": r".*\.1\d\..*"},
        {"target_modules": ["q_proj"], "layers_to_transform": [1, 11]},
        {"target_modules": ["q_proj"], "layers_to_transform": []},
        {"target_modules": ["v_proj", QUERY.format(5)], "layers_to_transform": [0]},
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
    expected = {path: rank for path, (rank, _) in wrapped(by_peft(r=3, **settings)).items()}
    assert read_peft(config_of(tmp_path, **settings), SHAPE).by_path == expected


def test_weights_of_other_sites_or_ranks_than_the_settings_are_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    config_of(tmp_path, target_modules=["v_proj"], r=5)
    with pytest.raises(InputError, match=r"disagree on 24 linears .*q_proj has no adapter by the config and rank 2"):
        read_peft(tmp_path, SHAPE)


@pytest.mark.parametrize(
    ("base", "target", "message"),
    [
        ({"hidden_size": 32}, "q_proj", r"another base model: .* is 2 x 32, this one is 16 wide there"),
        ({"num_hidden_layers": 13}, QUERY.format(12), r"another base model: .*layers\.12\..* without such a linear"),
        ({}, "embed_tokens", r"embed_tokens.* belongs to no low-rank adapter of a linear"),
    ],
)
def test_weights_of_another_base_are_refused(base: dict[str, int], target: str, message: str, tmp_path: Path) -> None:
    saved(tmp_path, LlamaConfig(**{**CONFIG.to_dict(), **base}), target_modules=[target])
    with pytest.raises(InputError, match=message):
        read_peft(tmp_path, SHAPE)


def test_half_a_weight_file_is_refused(tmp_path: Path) -> None:
    weights = saved(tmp_path) / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"adapter_model.safetensors cannot be read, it may be incomplete"):
        read_peft(tmp_path, SHAPE)


@pytest.mark.parametrize(
    ("settings", "kind"), [({"use_rslora": True, "lora_alpha": 16}, "lora"), ({"use_dora": True}, "dora")]
)
def test_a_rank_stabilised_adapter_is_a_lora_and_a_dora_is_one(
    tmp_path: Path, settings: dict[str, Any], kind: Any
) -> None:
    saved(tmp_path, **settings)
    expected = Configuration.of({QUERY.format(layer): 2 for layer in range(12)}, kind=kind)
    assert read_peft(tmp_path, SHAPE) == expected
    (tmp_path / "adapter_model.safetensors").unlink()
    assert read_peft(tmp_path / "adapter_config.json", SHAPE) == expected
    assert (
        expected.adapter_parameters(SHAPE)
        == by_peft(**peft_arguments(expected, dict.fromkeys(expected.by_path, 1.0))).get_nb_trainable_parameters()[0]
    )


@pytest.mark.parametrize(
    ("is_dora", "message"),
    [
        (True, r"is incomplete: .*q_proj lacks a part of its DoRA"),
        (False, r"lora_magnitude_vector' belongs to no low-rank adapter of a linear"),
    ],
)
def test_lengths_of_rows_must_be_there_in_a_dora_only(tmp_path: Path, is_dora: bool, message: str) -> None:
    settings = json.loads((saved(tmp_path, use_dora=not is_dora) / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**settings, "use_dora": is_dora}))
    with pytest.raises(InputError, match=message):
        read_peft(tmp_path, SHAPE)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target_modules": ["query_key_value"]}, "its target modules match no linear of the base model"),
        ({"r": 64}, r"rank of .*q_proj must be 0 to 16 in this base model, not 64"),
        ({"target_modules": "*.q_proj"}, "target_modules or patterns cannot be understood"),
        ({"peft_type": "IA3"}, "peft_type is 'IA3'; only LORA .* is measured: .* has no rank; merge it with PEFT's"),
        ({"peft_type": "PREFIX_TUNING"}, r"measure the base with more positions"),
        ({"peft_type": "BOFT"}, r"most others cost nothing once they are merged: merge it"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save is set: whole modules were trained beside the adapter"),
        ({"lora_bias": True}, "lora_bias is set: its B has a bias, which is one more addition in every call; measure"),
        ({"bias": "lora_only"}, "bias is 'lora_only': biases of the base were trained"),
        ({"lora_alpha": 10**400}, r"lora_alpha must be finite numbers, not 1000"),
        ({"lora_alpha": float("nan")}, r"lora_alpha must be finite numbers, not nan"),
        ({"lora_alpha": "many"}, r"lora_alpha must be finite numbers, not 'many'"),
        ({"alpha_pattern": {"q_proj": float("-inf")}}, r"alpha_pattern must be finite numbers, not -inf"),
        *(({"r": each}, r"json: r must be whole numbers above 0, not") for each in (float("inf"), 4.5, 0, True, "8")),
        ({"rank_pattern": {"q_proj": 4.5}}, r"json: rank_pattern must be whole numbers above 0, not"),
    ],
    ids=str,
)
def test_settings_that_are_not_measured_are_refused_with_advice(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_peft(config_of(tmp_path, **{"target_modules": ["q_proj"], **settings}), SHAPE)


def test_every_setting_and_kind_that_is_refused_is_one_of_peft() -> None:
    assert [name for name in OTHER_SETTINGS if not hasattr(LoraConfig(), name)] == []
    assert set(OTHER_KINDS) <= set(PeftType)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"is no PEFT folder: adapter_config.json cannot be read \(No such"),
        (b"[]", "must be one JSON object; save the adapter again"),
        (b"{", r"adapter_config.json is not JSON"),
        (b"\xff\xfe", r"adapter_config.json is not JSON"),
    ],
)
def test_a_folder_without_readable_settings_is_refused(content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "adapter_config.json").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_peft(tmp_path, SHAPE)


def test_a_file_instead_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match=r"is no PEFT folder: .*\(Not a directory\)"):
        read_peft(tmp_path / "file", SHAPE)


def test_a_folder_whose_weights_are_missing_is_refused_and_its_config_is_not(tmp_path: Path) -> None:
    weights = saved(tmp_path) / "adapter_model.safetensors"
    weights.unlink()
    with pytest.raises(InputError, match=r"has no adapter_model\.safetensors; .* or name its adapter_config\.json"):
        read_peft(tmp_path, SHAPE)
    weights.symlink_to(tmp_path / "moved away")
    with pytest.raises(InputError, match=r"has no adapter_model\.safetensors \(it is a link to .*moved away.*\);"):
        read_peft(tmp_path, SHAPE)
    assert len(read_peft(tmp_path / "adapter_config.json", SHAPE).ranks) == 12
    weights.unlink()
    weights.mkdir()
    with pytest.raises(InputError, match=r"adapter_model\.safetensors"):
        read_peft(tmp_path, SHAPE)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (torch.float32, float("nan")),
        (torch.float16, float("-inf")),
        (torch.bfloat16, float("inf")),
        (torch.float8_e4m3fn, float("nan")),
        (torch.float8_e5m2, float("nan")),
    ],
)
def test_weights_that_are_no_finite_numbers_are_refused(tmp_path: Path, dtype: torch.dtype, value: float) -> None:
    file = saved(tmp_path) / "adapter_model.safetensors"
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(file).items()}
    whole = torch.full_like(tensors[WEIGHT].float(), torch.finfo(dtype).max)
    save_file({**tensors, WEIGHT: whole.to(dtype)}, file)
    assert len(read_peft(tmp_path, SHAPE).ranks) == 12
    whole[3, 1] = value
    save_file({**tensors, WEIGHT: whole.to(dtype)}, file)
    with pytest.raises(InputError, match=r"layers\.7\..*q_proj\.lora_B\.weight' has NaN or infinite values"):
        read_peft(tmp_path, SHAPE)
