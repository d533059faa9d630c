"""Programs of torch: adapters in each mode, caches, memory, and files of weights."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig

from adaptare.core import InputError
from adaptare.devices import Program, TorchCpu
from adaptare.profiler import Configuration, FixedRounds, ModelShape, Workload, profile
from adaptare.profiler.models import disk_cache
from adaptare.profiler.programs.builders import TorchPrograms, memory_bytes
from adaptare.profiler.programs.torch.programs import Bindable, build

Configs = Mapping[str, Callable[[], PreTrainedConfig]]


PATH = "model.layers.1.mlp.down_proj"


def adapted(shape: ModelShape, **fields: Any) -> Workload:
    return Workload(shape, Configuration.of({PATH: 4}), past=5, **fields)


def loaded(workload: Workload) -> Bindable:
    return build(**json.loads(TorchPrograms().program(workload).arguments))


def from_file(program: Program) -> Bindable:
    return build(**json.loads(program.arguments), folder=str(program.files[0].path.parent))


def bound(workload: Workload, program: Bindable) -> tuple[Callable[[], Any], Callable[[], None]]:
    return program.bind({"phase": workload.phase, "batch": workload.batch, "length": workload.length})


def computed(program: Bindable, workload: Workload) -> np.ndarray:
    call, restore = bound(workload, program)
    restore()
    return np.array(call().tolist())


def outputs(workload: Workload) -> np.ndarray:
    return computed(loaded(workload), workload)


def check_adapter(shape: ModelShape, phase: Any, scope: Any) -> None:
    """Merged and swappable outputs agree, and differ from those of the base."""
    adapter = Configuration.of({site.path: 1 + index % 4 for index, site in enumerate(shape.sites)})
    swappable = Workload(shape, adapter, phase=phase, scope=scope, batch=2, tokens=6, past=5)
    ours, merged, base = (outputs(each) for each in (swappable, swappable.merged, swappable.base))
    assert ours.shape == merged.shape == base.shape
    assert np.abs(ours - merged).max() <= 1e-5 * max(1, np.abs(merged).max())
    assert np.abs(ours - base).max() > 1e-3 * np.abs(base).max()


def test_an_adapter_of_any_family_is_the_same_merged(shape: ModelShape) -> None:
    check_adapter(shape, "decode", "model")


@pytest.mark.parametrize(("phase", "scope"), [("prefill", "model"), ("prefill", "block"), ("decode", "block")])
def test_an_adapter_is_the_same_merged_in_each_phase_and_scope(llama: ModelShape, phase: Any, scope: Any) -> None:
    check_adapter(llama, phase, scope)


@pytest.mark.parametrize("scope", ["model", "block"])
def test_a_dora_is_the_same_merged_and_not_what_a_lora_is(llama: ModelShape, scope: Any) -> None:
    ranks = {site.path: 1 + index % 4 for index, site in enumerate(llama.sites)}
    lora = Workload(llama, Configuration.of(ranks), scope=scope, phase="prefill", tokens=6)
    dora = lora.with_configuration(Configuration.of(ranks, kind="dora"))
    ours, merged, plain = (outputs(each) for each in (dora, dora.merged, lora))
    assert np.abs(ours - merged).max() <= 1e-5 * max(1, np.abs(merged).max())
    assert np.abs(ours - plain).max() > 1e-4 * np.abs(plain).max()


@pytest.mark.parametrize("family", ["llama", "gemma2"])
@pytest.mark.parametrize(
    ("phase", "length", "scope"),
    [("decode", 0, "model"), ("decode", 20, "model"), ("prefill", 6, "model"), ("decode", 5, "block")],
)
def test_the_cache_is_restored_between_calls(
    configs: Configs, family: str, phase: Any, length: int, scope: Any
) -> None:
    """Also beyond a window of 16 tokens."""
    shape = ModelShape.from_config(configs[family]())
    workload = Workload(shape, phase=phase, past=length, tokens=max(1, length), scope=scope)
    call, restore = bound(workload, loaded(workload))
    results = []
    for _ in range(3):
        restore()
        results.append(call().tolist())
    assert results[0] == results[1] == results[2]


def test_decode_computes_what_one_long_prefill_does(llama: ModelShape, configs: Configs) -> None:
    """The logits of a token against a cache are those of the last position of the whole sequence."""
    ours = outputs(Workload(llama, past=5).base).tolist()
    generator = torch.Generator().manual_seed(0)
    past = torch.randint(0, llama.vocabulary, (1, 5), generator=generator)
    token = torch.randint(0, llama.vocabulary, (1, 1), generator=generator)
    torch.manual_seed(0)
    plain = AutoModelForCausalLM.from_config(configs["llama"]()).eval()
    with torch.inference_mode():
        expected = plain(torch.cat([past, token], dim=1)).logits[0, -1]
    np.testing.assert_allclose(ours, expected.numpy(), atol=1e-5, rtol=1e-5)


def test_merging_leaves_the_shared_weights_alone(llama: ModelShape) -> None:
    base = Workload(llama, phase="prefill", tokens=4)
    before = outputs(base)
    loaded(Workload(llama, Configuration.uniform(llama, 4), mode="merged"))
    assert np.array_equal(outputs(base), before)


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


@pytest.mark.parametrize("scope", ["model", "block"])
def test_a_file_gives_what_memory_gives(shape: ModelShape, tmp_path: Path, scope: Any) -> None:
    path = next(site.path for site in shape.sites if site.layer == 0)
    mode: Any = "merged" if scope == "model" else "swappable"
    workload = Workload(shape, Configuration.of({path: 4}), mode=mode, scope=scope, past=5)
    program = TorchPrograms(cache=tmp_path).program(workload)
    assert [file.name for file in program.files] == ["config.json", "model.safetensors"]
    assert computed(from_file(program), workload) == pytest.approx(outputs(workload), abs=1e-6)


def test_a_base_and_its_swappable_adapters_share_a_file_and_a_merged_one_has_its_own(
    llama: ModelShape, tmp_path: Path
) -> None:
    programs, workload = TorchPrograms(cache=tmp_path), adapted(llama)
    base, swappable, merged = (programs.program(each).files for each in (workload.base, workload, workload.merged))
    assert base == swappable != merged


def test_a_file_is_made_once_and_again_if_it_had_to_make_room(
    llama: ModelShape, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = TorchPrograms(cache=tmp_path).program(adapted(llama)).files
    for lost in ("config.json", "model.safetensors"):
        (before[0].path.parent / lost).unlink()
        assert TorchPrograms(cache=tmp_path).program(adapted(llama)).files == before

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("this was made already")

    monkeypatch.setattr(disk_cache, "cached_folder", refuse)
    assert TorchPrograms(cache=tmp_path).program(adapted(llama)).files == before


def test_copies_share_no_weights_although_they_come_from_one_file(llama: ModelShape, tmp_path: Path) -> None:
    program = TorchPrograms(cache=tmp_path).program(adapted(llama, scope="block"))
    folder = str(program.files[0].path.parent)
    first, second = (build(**json.loads(program.arguments), folder=folder, copy=copy) for copy in (1, 2))
    places = [{each.data_ptr() for each in copy._base.parameters()} for copy in (first, second)]
    assert places[0] & places[1] == set()


def test_the_precision_of_a_file_is_that_of_the_workload(llama: ModelShape, tmp_path: Path) -> None:
    program = TorchPrograms(cache=tmp_path).program(adapted(llama, dtype="bfloat16"))
    assert {each.dtype for each in from_file(program)._base.parameters()} == {torch.bfloat16}


@pytest.mark.slow
def test_a_real_session_times_candidates_beside_their_base(llama: ModelShape) -> None:
    device = TorchCpu(threads=1)
    for base in (adapted(llama), adapted(llama, dtype="bfloat16")):
        wanted = [base, replace(base, mode="merged")]
        results = profile(wanted, reference=base.base, device=device, stop=FixedRounds(4), seed=0)
        assert [each.failure for each in results] == ["", ""]
        assert all(len(each.visits) == 4 for each in results)
        assert all(each.device == device.info() for each in results)
