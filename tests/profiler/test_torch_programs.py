import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig

from adaptare.core import InputError
from adaptare.devices import TorchCpu
from adaptare.profiler import Configuration, FixedRounds, ModelShape, Workload, profile
from adaptare.profiler.models.random_model import cache_argument
from adaptare.profiler.programs.builders import SimulatedPrograms, TorchPrograms, memory_bytes
from adaptare.profiler.programs.torch.programs import Bindable, build
from adaptare.profiler.workloads.shape import one_layer

Configs = Mapping[str, Callable[[], PreTrainedConfig]]


def loaded(workload: Workload) -> Bindable:
    return build(**json.loads(TorchPrograms().program(workload).arguments))


def bound(workload: Workload) -> tuple[Callable[[], Any], Callable[[], None]]:
    length = workload.length
    return loaded(workload).bind({"phase": workload.phase, "batch": workload.batch, "length": length})


def outputs(workload: Workload) -> np.ndarray:
    call, restore = bound(workload)
    restore()
    return np.array(call().tolist())


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("scope", ["model", "block"])
def test_merged_and_swappable_agree_and_differ_from_the_base(shape: ModelShape, phase: Any, scope: Any) -> None:
    adapter = Configuration.of({site.path: 1 + index % 4 for index, site in enumerate(shape.sites)})
    swappable = Workload(shape, adapter, phase=phase, scope=scope, batch=2, tokens=6, past=5)
    ours, merged, base = (outputs(each) for each in (swappable, swappable.merged, swappable.base))
    assert ours.shape == merged.shape == base.shape
    assert np.abs(ours - merged).max() <= 1e-5 * max(1, np.abs(merged).max())
    assert np.abs(ours - base).max() > 1e-3 * np.abs(base).max()


@pytest.mark.parametrize("scope", ["model", "block"])
def test_a_dora_is_the_same_merged_and_not_what_a_lora_is(shape: ModelShape, scope: Any) -> None:
    ranks = {site.path: 1 + index % 4 for index, site in enumerate(shape.sites)}
    lora = Workload(shape, Configuration.of(ranks), scope=scope, phase="prefill", tokens=6)
    dora = lora.with_configuration(Configuration.of(ranks, kind="dora"))
    ours, merged, plain = (outputs(each) for each in (dora, dora.merged, lora))
    assert np.abs(ours - merged).max() <= 1e-5 * max(1, np.abs(merged).max())
    assert np.abs(ours - plain).max() > 1e-4 * np.abs(plain).max()


@pytest.mark.parametrize("scope", ["model", "block"])
@pytest.mark.parametrize(("phase", "length"), [("decode", 0), ("decode", 5), ("decode", 20), ("prefill", 6)])
def test_the_cache_is_restored_between_calls(shape: ModelShape, phase: Any, length: int, scope: Any) -> None:
    adapter = Configuration.uniform(shape, 2)
    call, restore = bound(Workload(shape, adapter, phase=phase, past=length, tokens=max(1, length), scope=scope))
    results = []
    for _ in range(3):
        restore()
        results.append(call().tolist())
    assert results[0] == results[1] == results[2]


def test_without_restoring_decode_would_see_its_own_token(llama: ModelShape) -> None:
    call, restore = bound(Workload(llama, past=5).base)
    restore()
    first = call().tolist()
    assert call().tolist() != first


def test_decode_computes_what_one_long_prefill_does(llama: ModelShape, configs: Configs) -> None:
    """The logits of a token against a cache are those of the last position of the whole sequence."""
    program = loaded(Workload(llama, past=5).base)
    call, restore = program.bind({"phase": "decode", "batch": 1, "length": 5})
    restore()
    ours = call().tolist()
    generator = torch.Generator().manual_seed(0)
    past = torch.randint(0, llama.vocabulary, (1, 5), generator=generator)
    token = torch.randint(0, llama.vocabulary, (1, 1), generator=generator)
    torch.manual_seed(0)
    plain = AutoModelForCausalLM.from_config(configs["llama"]()).eval()
    with torch.inference_mode():
        expected = plain(torch.cat([past, token], dim=1)).logits[0, -1]
    torch.testing.assert_close(torch.tensor(ours), expected, atol=1e-5, rtol=1e-5)


def test_a_block_is_decoder_layer_0_of_the_model(llama: ModelShape) -> None:
    call, _ = bound(Workload(llama, phase="prefill", scope="block", tokens=3, batch=2).base)
    assert len(call().tolist()) == 2 * 3 * llama.hidden


def test_programs_of_one_base_share_its_weights(llama: ModelShape) -> None:
    first = loaded(Workload(llama, Configuration.uniform(llama, 2)))
    second = loaded(Workload(llama, Configuration.uniform(llama, 4, kinds=("q_proj",))))
    weights = [
        program._model.get_base_model().get_submodule("model.layers.1.mlp.up_proj") for program in (first, second)
    ]
    pointers = [next(weight.parameters()).data_ptr() for weight in weights]
    assert pointers[0] == pointers[1]


def test_merging_leaves_the_shared_weights_alone(llama: ModelShape) -> None:
    base = loaded(Workload(llama).base)
    call, restore = base.bind({"phase": "prefill", "batch": 1, "length": 4})
    before = call().tolist()
    loaded(Workload(llama, Configuration.uniform(llama, 4), mode="merged"))
    restore()
    assert call().tolist() == before


def test_a_config_of_one_layer_keeps_the_widths(configs: Configs) -> None:
    config = one_layer(configs["gemma2"]().to_dict())
    assert (config["num_hidden_layers"], len(config["layer_types"])) == (1, 1)
    assert config["hidden_size"] == 32


def test_the_cache_is_passed_under_the_name_this_version_knows(configs: Configs) -> None:
    model = AutoModelForCausalLM.from_config(configs["llama"]())
    assert cache_argument(model) in ("cache", "past_key_values")


def test_embeddings_beside_the_head_take_memory(configs: Configs) -> None:
    config = configs["llama"]()
    tied, untied = (
        ModelShape.from_mapping({**config.to_dict(), "tie_word_embeddings": each}) for each in (True, False)
    )
    programs, embedding = TorchPrograms(), 4 * tied.vocabulary * tied.hidden
    for asked in (lambda base: programs.need(base).program_bytes, programs.disk_bytes):
        assert asked(Workload(untied).base) - asked(Workload(tied).base) == embedding
    assert programs.need(Workload(untied).base).program_bytes == sum(
        4 * parameter.numel() for parameter in loaded(Workload(untied).base)._base.parameters() if parameter.ndim > 1
    )


@pytest.mark.parametrize(("quantisation", "embeddings"), [("none", 0), ("int4", 0), ("int8", 1)])
def test_a_head_of_8_bits_is_a_copy_beside_the_embeddings(configs: Configs, quantisation: Any, embeddings: int) -> None:
    shape = ModelShape.from_mapping({**configs["llama"]().to_dict(), "tie_word_embeddings": True})
    base = Workload(shape, quantisation=quantisation).base
    own = embeddings * 4 * shape.vocabulary * shape.hidden
    assert memory_bytes(base) == base.base_bytes + base.cache_bytes + own
    adapted = Workload(shape, Configuration.of({shape.sites[0].path: 4}), quantisation=quantisation)
    halves = 4 * 4 * (shape.sites[0].in_features + shape.sites[0].out_features)
    assert memory_bytes(adapted) - memory_bytes(base) == halves
    assert memory_bytes(adapted.folded) == memory_bytes(base)


def test_torch_refuses_modes_it_does_not_have(llama: ModelShape) -> None:
    padded = Workload(llama, Configuration.uniform(llama, 2), mode="padded")
    with pytest.raises(InputError, match="torch applies adapters swappable or merged, not 'padded'"):
        TorchPrograms().program(padded)
    assert SimulatedPrograms().program(padded).source == "simulated"


@pytest.mark.slow
def test_a_real_session_times_candidates_beside_their_base(llama: ModelShape) -> None:
    adapter = Configuration.uniform(llama, 4)
    wanted = [
        Workload(llama, adapter),
        Workload(llama, adapter, mode="merged"),
        Workload(llama, adapter, dtype="bfloat16"),
    ]
    device = TorchCpu(threads=1)
    results = profile(wanted[:2], reference=Workload(llama).base, device=device, stop=FixedRounds(8), seed=0)
    assert [each.failure for each in results] == ["", ""]
    assert all(len(each.visits) == 8 for each in results)
    assert all(each.device == device.info() for each in results)
