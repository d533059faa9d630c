"""Shapes against the modules that transformers builds from the same config."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig

from adaptare.core import InputError
from adaptare.profiler import ModelShape
from adaptare.profiler.workloads.shape import FAMILIES, Site

SIZES = {
    "num_hidden_layers": 3,
    "hidden_size": 48,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 80,
    "vocab_size": 160,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def small_config(family: str, **changes: Any) -> PreTrainedConfig:
    return AutoConfig.for_model(family, **{**SIZES, **changes})


def empty_model(config: PreTrainedConfig) -> nn.Module:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_sites_are_the_linears_of_the_decoder_layers_and_parameters_count_the_embedding_too(family: str) -> None:
    config = small_config(family, head_dim=10)
    model = empty_model(config)
    built = {
        f"model.layers.{name}": (module.in_features, module.out_features)
        for name, module in model.model.layers.named_modules()
        if isinstance(module, nn.Linear)
    }
    shape = ModelShape.from_config(config)
    assert {site.path: (site.in_features, site.out_features) for site in shape.sites} == built
    assert len(shape.sites) == len(built)
    embedding = model.model.embed_tokens.weight.numel()
    assert shape.parameters == embedding + sum(width_in * width_out for width_in, width_out in built.values())


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_config_on_disk_or_with_defaults_left_out_gives_the_same_shape(family: str, tmp_path: Path) -> None:
    config = small_config(family)
    config.save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    shape = ModelShape.from_config(config)
    assert ModelShape.from_config(AutoConfig.from_pretrained(tmp_path)).hash == shape.hash
    assert ModelShape.from_mapping(content) == ModelShape.from_mapping(json.loads(shape.config)) == shape
    silent = ModelShape.from_config(AutoConfig.for_model(family))
    assert ModelShape.from_mapping({"model_type": family}) == silent


def test_the_name_of_a_checkpoint_does_not_change_the_hash() -> None:
    config = small_config("llama")
    named = small_config("llama", _name_or_path="somewhere/else", architectures=["LlamaForCausalLM"])
    assert ModelShape.from_config(named).hash == ModelShape.from_config(config).hash


@pytest.mark.parametrize(
    "change",
    [
        {"num_hidden_layers": 4},
        {"num_key_value_heads": 3},
        {"hidden_act": "gelu"},
        {"tie_word_embeddings": True},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_hash_changes_with_what_runs(change: dict[str, Any]) -> None:
    changed = ModelShape.from_config(small_config("llama", **change))
    assert changed.hash != ModelShape.from_config(small_config("llama")).hash


def test_a_damaged_number_of_layers_takes_no_memory() -> None:
    shape = ModelShape.from_config(small_config("llama"))
    with pytest.raises(InputError, match="a model has at most 10000 layers, not 8388608"):
        replace(shape, layers=2**23)


def test_sites_go_layer_by_layer_in_the_order_of_their_calls() -> None:
    sites = ModelShape.from_config(small_config("llama")).sites
    assert [site.layer for site in sites] == [0] * 7 + [1] * 7 + [2] * 7
    kinds = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    assert [site.kind for site in sites[7:14]] == kinds


def test_the_largest_rank_is_the_smaller_side() -> None:
    assert (Site("p", "k", 0, 7, 5).largest_rank, Site("p", "k", 0, 3, 5).largest_rank) == (5, 3)


def test_an_unsupported_family_is_answered_with_the_supported() -> None:
    message = "model family 'gpt2' is not supported; supported are gemma, gemma2, gemma3_text, llama, mistral, phi3"
    with pytest.raises(InputError, match=message):
        ModelShape.from_config(AutoConfig.for_model("gpt2"))
    with pytest.raises(InputError, match="model family 'mamba' is not supported; supported are gemma"):
        ModelShape.from_mapping({"model_type": "mamba"})


@pytest.mark.parametrize("config", [{}, {"model_type": 3}])
def test_a_config_without_a_family_is_told_what_names_it(config: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="the config has no model_type"):
        ModelShape.from_mapping(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 10**9}, r"num_hidden_layers of a model must be a whole number from 1 to 10,000, not 1"),
        ({"hidden_size": "wide"}, r"hidden_size of a model must be a whole number from 1 to 10,000,000, not 'wide'$"),
        ({"vocab_size": None}, r"the config is none of a llama model: vocab_size cannot be None$"),
        ({"num_key_value_heads": 4}, r"num_key_value_heads must divide num_attention_heads, .*; 4 does not divide 6$"),
        ({"rms_norm_eps": float("nan")}, r"the config has NaN or infinite values; a model has none$"),
        ({"rope_parameters": 3}, r"the config is none of a llama model: rope_parameters cannot be 3$"),
        ({"num_attention_heads": 5, "num_key_value_heads": 1}, r"The hidden size \(48\) is not a multiple"),
    ],
    ids=str,
)
def test_a_config_that_no_model_can_have_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as refusal:
        ModelShape.from_mapping({"model_type": "llama", **SIZES, **changes})
    assert "validat" not in str(refusal.value).lower()


def test_a_model_has_only_so_many_positions() -> None:
    shape = ModelShape.from_config(small_config("llama", max_position_embeddings=100))
    shape.check_positions(100)
    with pytest.raises(InputError, match=r"ends at 100 positions \(max_position_embeddings\), and this needs 101"):
        shape.check_positions(101)


@pytest.mark.parametrize("family", ["llama", "gemma2", "phi3"])
def test_a_stub_keeps_the_widths_and_the_types_of_its_layers(family: str) -> None:
    shape = ModelShape.from_config(small_config(family))
    stub = shape.stub(1)
    assert stub.sites == tuple(site for site in shape.sites if site.layer == 0)
    assert replace(stub, layers=3, config=shape.config) == shape
    types = json.loads(shape.config).get("layer_types")
    assert json.loads(stub.config).get("layer_types") == (types and types[:1])
    for layers in (0, 4):
        with pytest.raises(InputError, match=f"a stub of this model has 1 to 3 layers, not {layers}"):
            shape.stub(layers)
