"""Adapters against what PEFT itself makes of the same arguments."""

from collections.abc import Callable

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from adaptare.core import InputError
from adaptare.profiler import Configuration, ModelShape
from adaptare.profiler.workloads.peft_folder import peft_arguments

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
    config = Configuration.of(ADAPTERS[name]())
    scales = {path: 0.25 * (1 + position % 3) for position, (path, _) in enumerate(config.ranks)}
    model = get_peft_model(base_model(), LoraConfig(**peft_arguments(config, scales)))
    assert wrapped(model) == {path: (rank, pytest.approx(scales[path], rel=1e-12)) for path, rank in config.ranks}


def test_only_what_differs_is_written_into_the_patterns() -> None:
    config = Configuration.of({QUERY.format(0): 4, QUERY.format(1): 4, QUERY.format(2): 8})
    assert peft_arguments(config, {path: 2.0 for path, _ in config.ranks}) == {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": [QUERY.format(0), QUERY.format(1), QUERY.format(2)],
        "rank_pattern": {r"model\.layers\.2\.self_attn\.q_proj": 8},
        "alpha_pattern": {r"model\.layers\.2\.self_attn\.q_proj": 16},
    }


def test_an_adapter_without_sites_cannot_be_written() -> None:
    with pytest.raises(InputError, match="an adapter without any site cannot be written for PEFT"):
        peft_arguments(Configuration(), {})


def test_adapter_parameters_are_those_that_peft_adds() -> None:
    config = Configuration.of(ADAPTERS["every site, ranks in turn"]())
    model = get_peft_model(base_model(), LoraConfig(**peft_arguments(config, {path: 1.0 for path, _ in config.ranks})))
    assert config.adapter_parameters(SHAPE) == model.get_nb_trainable_parameters()[0]


def test_a_dora_is_written_as_peft_has_it() -> None:
    config = Configuration.of({QUERY.format(0): 4}, kind="dora")
    model = get_peft_model(base_model(), LoraConfig(**peft_arguments(config, {QUERY.format(0): 1.0})))
    assert config.adapter_parameters(SHAPE) == model.get_nb_trainable_parameters()[0]
    assert hasattr(model.get_base_model().get_submodule(QUERY.format(0)), "lora_magnitude_vector")
