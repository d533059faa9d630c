"""Adapter configs against what PEFT itself makes of the same arguments."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from adaptare.devices import InputError
from adaptare.profiler import AdapterConfig, ModelShape, peft_arguments

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


def test_a_dora_is_written_as_peft_has_it() -> None:
    config = AdapterConfig.of({QUERY.format(0): 4}, kind="dora")
    model = get_peft_model(base_model(), LoraConfig(**peft_arguments(config, {QUERY.format(0): 1.0})))
    assert config.adapter_parameters(SHAPE) == model.get_nb_trainable_parameters()[0]
    assert hasattr(model.get_base_model().get_submodule(QUERY.format(0)), "lora_magnitude_vector")


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(InputError, match="kind must be one of lora, dora, not 'vera'"):
        AdapterConfig(kind="vera")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["of", "uncut"])
def test_a_kind_is_kept(name: str) -> None:
    config = AdapterConfig.of({QUERY.format(0): 4}, kind="dora")
    assert (config if name == "of" else config.uncut(SHAPE)).kind == "dora"


def test_an_adapter_config_is_iterated_and_counted_by_site() -> None:
    config = AdapterConfig.of({"b": 2, "a": 1})
    assert (list(config), len(config)) == ([("a", 1), ("b", 2)], 2)


def test_an_uncut_adapter_names_every_site() -> None:
    some = AdapterConfig.uniform(SHAPE, 3, kinds=("q_proj",))
    uncut = some.uncut(SHAPE)
    assert len(uncut) == len(SHAPE.sites)
    assert {path: rank for path, rank in uncut if rank} == some.by_path
    assert uncut.adapter_parameters(SHAPE) == some.adapter_parameters(SHAPE)
