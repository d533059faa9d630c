"""Adapter configs against what PEFT itself makes of the same arguments and the same folders."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from adaptare.devices import InputError
from adaptare.profiler import AdapterConfig, ModelShape, peft_arguments, read_peft

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


def folder_of(tmp_path: Path, **settings: Any) -> Path:
    """A folder with settings alone, as people write them by hand."""
    content = {"peft_type": "LORA", "r": 3, **settings}
    (tmp_path / "adapter_config.json").write_text(json.dumps(content), encoding="utf-8")
    return tmp_path


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
def test_peft_wraps_exactly_the_sites_with_their_ranks_and_scales(name: str) -> None:
    config = AdapterConfig.of(ADAPTERS[name]())
    scales = {path: 0.25 * (1 + position % 3) for position, (path, _) in enumerate(config)}
    model = get_peft_model(base_model(), LoraConfig(**peft_arguments(config, scales)))
    assert wrapped(model) == {path: (rank, pytest.approx(scales[path], rel=1e-12)) for path, rank in config}


def test_only_what_differs_is_written_into_the_patterns() -> None:
    config = AdapterConfig.of({QUERY.format(0): 4, QUERY.format(1): 4, QUERY.format(2): 8})
    assert peft_arguments(config, {path: 2.0 for path, _ in config}) == {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": [QUERY.format(0), QUERY.format(1), QUERY.format(2)],
        "rank_pattern": {r"model\.layers\.2\.self_attn\.q_proj": 8},
        "alpha_pattern": {r"model\.layers\.2\.self_attn\.q_proj": 16},
    }


def test_an_adapter_without_sites_cannot_be_written() -> None:
    with pytest.raises(InputError, match="an adapter without any site cannot be written for PEFT"):
        peft_arguments(AdapterConfig(), {})


@pytest.mark.parametrize("name", ADAPTERS)
def test_what_peft_saves_is_read_back(name: str, tmp_path: Path) -> None:
    config = AdapterConfig.of(ADAPTERS[name]())
    arguments = peft_arguments(config, {path: 1.0 for path, _ in config})
    get_peft_model(AutoModelForCausalLM.from_config(CONFIG), LoraConfig(**arguments)).save_pretrained(tmp_path)
    assert read_peft(tmp_path, SHAPE) == config


@pytest.mark.parametrize("name", ADAPTERS)
def test_what_peft_saves_is_read_back_without_its_weights(name: str, tmp_path: Path) -> None:
    config = AdapterConfig.of(ADAPTERS[name]())
    arguments = peft_arguments(config, {path: 1.0 for path, _ in config})
    get_peft_model(AutoModelForCausalLM.from_config(CONFIG), LoraConfig(**arguments)).save_pretrained(tmp_path)
    (tmp_path / "adapter_model.safetensors").unlink()
    assert read_peft(tmp_path, SHAPE) == config


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
    assert read_peft(folder_of(tmp_path, **settings), SHAPE).by_path == ranks_by_peft(r=3, **settings)


def test_weights_decide_where_the_settings_say_something_else(tmp_path: Path) -> None:
    model = get_peft_model(AutoModelForCausalLM.from_config(CONFIG), LoraConfig(r=2, target_modules=["q_proj"]))
    model.save_pretrained(tmp_path)
    folder_of(tmp_path, target_modules=["v_proj"], r=5)
    assert read_peft(tmp_path, SHAPE) == AdapterConfig.uniform(SHAPE, 2, kinds=("q_proj",))


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
        read_peft(folder_of(tmp_path, target_modules=["query_key_value"]), SHAPE)


def test_settings_with_a_rank_beyond_the_layer_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"rank 64 is larger than .*q_proj, which is 16 x 16; use at most 16"):
        read_peft(folder_of(tmp_path, target_modules=["q_proj"], r=64), SHAPE)


def test_dora_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="DoRA changes what runs at every adapted layer"):
        read_peft(folder_of(tmp_path, target_modules=["q_proj"], use_dora=True), SHAPE)


def test_another_kind_of_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="peft_type is 'IA3'; only LORA adapters are understood"):
        read_peft(folder_of(tmp_path, peft_type="IA3"), SHAPE)


def test_a_list_of_settings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("[]", encoding="utf-8")
    with pytest.raises(InputError, match="peft_type is None; only LORA adapters are understood"):
        read_peft(tmp_path, SHAPE)


def test_a_folder_without_settings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is no PEFT adapter folder: adapter_config.json cannot be read \(No such"):
        read_peft(tmp_path, SHAPE)


def test_a_file_instead_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match=r"is no PEFT adapter folder: .*\(Not a directory\)"):
        read_peft(tmp_path / "file", SHAPE)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe"], ids=["cut off", "no text"])
def test_settings_that_are_no_json_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_bytes(content)
    with pytest.raises(InputError, match=r"adapter_config.json is not JSON"):
        read_peft(tmp_path, SHAPE)


def test_ranks_are_kept_sorted_by_path() -> None:
    assert AdapterConfig((("b", 1), ("a", 2))) == AdapterConfig((("a", 2), ("b", 1)))


def test_rank_0_means_no_adapter_there() -> None:
    assert AdapterConfig.of({"a": 0, "b": 3}).ranks == (("b", 3),)


def test_a_site_named_twice_is_refused() -> None:
    with pytest.raises(InputError, match="a site is named twice"):
        AdapterConfig((("a", 1), ("a", 2)))


@pytest.mark.parametrize("rank", [-1, 1.5, "4"])
def test_a_rank_that_is_no_whole_number_is_refused(rank: Any) -> None:
    with pytest.raises(InputError, match=f"rank of a must be a whole number from 0, not {rank!r}"):
        AdapterConfig((("a", rank),))


def test_a_uniform_adapter_has_its_rank_on_the_chosen_kinds() -> None:
    found = AdapterConfig.uniform(SHAPE, 3, kinds=("q_proj", "down_proj"))
    assert found.by_path == {path.format(layer): 3 for layer in range(12) for path in (QUERY, DOWN)}


def test_a_uniform_adapter_without_kinds_is_everywhere() -> None:
    assert len(AdapterConfig.uniform(SHAPE, 1)) == 12 * 7


def test_a_uniform_rank_beyond_the_smallest_layer_is_refused() -> None:
    with pytest.raises(InputError, match=r"rank 9 is larger than .*k_proj, which is 16 x 8; use at most 8"):
        AdapterConfig.uniform(SHAPE, 9)


def test_a_site_of_another_model_is_refused() -> None:
    message = r"the base model has no linear 'h\.0\.attn'; its first is 'model\.layers\.0\.self_attn\.q_proj'"
    with pytest.raises(InputError, match=message):
        AdapterConfig.of({"h.0.attn": 1}).check(SHAPE)


def test_adapter_parameters_are_those_that_peft_adds() -> None:
    config = AdapterConfig.of(ADAPTERS["every site, ranks in turn"]())
    model = get_peft_model(base_model(), LoraConfig(**peft_arguments(config, {path: 1.0 for path, _ in config})))
    assert config.adapter_parameters(SHAPE) == model.get_nb_trainable_parameters()[0]


def test_an_adapter_config_is_iterated_and_counted_by_site() -> None:
    config = AdapterConfig.of({"b": 2, "a": 1})
    assert (list(config), len(config)) == ([("a", 1), ("b", 2)], 2)


@pytest.mark.parametrize("settings", [{"target_modules": "*.q_proj"}, {"target_modules": ["q_proj"], "r": "many"}])
def test_settings_that_peft_could_not_read_are_refused(tmp_path: Path, settings: dict[str, object]) -> None:
    content = json.dumps({"peft_type": "LORA", **settings})
    (tmp_path / "adapter_config.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match="its target modules or ranks cannot be understood"):
        read_peft(tmp_path, SHAPE)


def test_an_uncut_adapter_names_every_site() -> None:
    some = AdapterConfig.uniform(SHAPE, 3, kinds=("q_proj",))
    uncut = some.uncut(SHAPE)
    assert len(uncut) == len(SHAPE.sites)
    assert {path: rank for path, rank in uncut if rank} == some.by_path
    assert uncut.adapter_parameters(SHAPE) == some.adapter_parameters(SHAPE)
