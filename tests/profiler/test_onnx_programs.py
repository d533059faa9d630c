"""What ONNX Runtime is given for workloads, and that it can be timed."""

import hashlib
import importlib.util
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from packing import joined
from transformers import PreTrainedModel

from adaptare.core import InputError, MissingPackageError, StorageError
from adaptare.devices import Feed, Program, ort_cpu
from adaptare.devices.agent.feeds import filled
from adaptare.profiler import Configuration, ModelShape, Workload, open_model, programs_for
from adaptare.profiler.models import disk_cache
from adaptare.profiler.models.random_model import random_model
from adaptare.profiler.programs.builders import TorchPrograms
from adaptare.profiler.programs.equality import largest_difference
from adaptare.profiler.programs.onnx import export as onnx_export
from adaptare.profiler.programs.onnx.base import OnnxBase
from adaptare.profiler.programs.onnx.programs import OnnxPrograms, graph_files
from adaptare.profiler.programs.onnx.quantise import dequantised_weights, rounded_weights
from adaptare.profiler.programs.torch.programs import build
from adaptare.profiler.workloads.sub_adapter import random_adapter

Logits = Callable[[PreTrainedModel, Mapping[str, NDArray[Any]]], NDArray[np.float32]]
Outputs = Callable[[Program], tuple[float, ...]]

DOWN_PROJ = "model.layers.1.mlp.down_proj"
MIXED = {"model.layers.0.self_attn.q_proj": 2, "model.layers.0.mlp.down_proj": 6, DOWN_PROJ: 4}
CPU = ort_cpu(threads=1, timeout_s=60)


@pytest.fixture(scope="module")
def programs(onnx_cache: Path) -> OnnxPrograms:
    return OnnxPrograms(CPU.info(), cache=onnx_cache)


@pytest.fixture(scope="module")
def outputs() -> Iterator[Outputs]:
    """The outputs of a program with one feed, as a worker gives them."""
    with CPU.open() as worker:

        def loaded(program: Program) -> tuple[float, ...]:
            given = worker.load(program)
            worker.unload(given.program_id)
            return given.outputs[program.feeds[0].name]

        yield loaded


@pytest.fixture
def mixed(llama: ModelShape) -> Workload:
    return Workload(llama, Configuration.of(MIXED), past=5)


def specs(feed: Feed) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads(feed.arguments)["inputs"]
    return found


def refused(programs: OnnxPrograms, workload: Workload, message: str) -> None:
    for ask in (programs.check, programs.need, programs.program, programs.merged_reference):
        with pytest.raises(InputError, match=message):
            ask(workload)


def test_merging_into_quantised_weights_is_refused_with_advice(programs: OnnxPrograms, mixed: Workload) -> None:
    advice = "cannot be merged into int4 weights as they are; apply it swappable or static, or merge .*: requantised"
    refused(programs, replace(mixed, mode="merged", quantisation="int4"), advice)


def test_quantising_again_needs_a_quantised_base(programs: OnnxPrograms, mixed: Workload) -> None:
    refused(programs, replace(mixed, mode="requantised"), "needs a quantised base; merge the adapter instead")


def test_dora_is_refused_with_advice(programs: OnnxPrograms, mixed: Workload) -> None:
    dora = mixed.with_configuration(replace(mixed.configuration, kind="dora"))
    for workload in (dora, dora.merged):
        with pytest.raises(InputError, match=r"DoRA is not put into ONNX graphs: .*; merge it with PEFT's"):
            programs.check(workload)


def test_other_dtypes_are_refused(programs: OnnxPrograms, mixed: Workload) -> None:
    refused(programs, replace(mixed, dtype="bfloat16"), "made in float32, not bfloat16; quantise the base instead")


def test_a_rank_larger_than_its_layer_makes_no_workload(llama: ModelShape) -> None:
    with pytest.raises(InputError, match=f"rank of {DOWN_PROJ} must be 0 to 32 in this base model, not 33"):
        Workload(llama, Configuration.of({DOWN_PROJ: 33}))


def test_packages_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime_genai" else name)
    with pytest.raises(MissingPackageError, match=r"onnxruntime_genai is not installed; .*'adaptare\[onnx\]'"):
        OnnxPrograms(CPU.info())


def test_a_graph_comes_with_the_data_that_it_names_and_no_other(tmp_path: Path) -> None:
    values = np.ones((64, 64), np.float32)
    tensor = onnx.numpy_helper.from_array(values, "weight")
    for name in ("a", "cut-a"):
        graph = onnx.helper.make_graph([], name, [], [], [tensor])
        data = f"{name}.onnx.data"
        onnx.save(onnx.helper.make_model(graph), tmp_path / f"{name}.onnx", save_as_external_data=True, location=data)
    found = [file.path.name for file in graph_files(tmp_path / "cut-a.onnx")]
    assert found == ["cut-a.onnx", "cut-a.onnx.data"]


def test_an_ort_device_gets_these_programs(onnx_cache: Path) -> None:
    assert isinstance(programs_for(CPU.info(), cache=onnx_cache), OnnxPrograms)


def test_asking_for_the_need_makes_no_file(programs: OnnxPrograms, mixed: Workload, tmp_path: Path) -> None:
    programs.program(mixed)
    need, of_what_is_there = OnnxPrograms(CPU.info(), cache=tmp_path).need(mixed), programs.need(mixed)
    assert need.total_bytes == of_what_is_there.total_bytes
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("ranks", "quantisation", "modes"),
    [
        ({DOWN_PROJ: 4}, "none", ("swappable", "static", "merged")),
        (MIXED, "none", ("swappable", "static", "padded", "merged")),
        (MIXED, "int4", ("swappable", "static", "padded", "requantised")),
        ({DOWN_PROJ: 4}, "int8", ("swappable", "static", "requantised")),
    ],
)
def test_modes_are_those_that_make_sense(
    programs: OnnxPrograms, llama: ModelShape, ranks: dict[str, int], quantisation: Any, modes: tuple[str, ...]
) -> None:
    assert programs.modes(Workload(llama, Configuration.of(ranks), quantisation=quantisation)) == modes


def sources(programs: OnnxPrograms, *workloads: Workload) -> set[str]:
    return {str(programs.program(workload).files[0].path) for workload in workloads}


def ranked(workload: Workload, factor: int) -> Workload:
    """The same placement with other ranks."""
    return workload.with_configuration(
        Configuration.of({path: factor * rank for path, rank in workload.configuration.ranks})
    )


def test_one_swappable_program_serves_every_rank_padded_or_not(programs: OnnxPrograms, mixed: Workload) -> None:
    sharing = [mixed, ranked(mixed, 2), replace(mixed, mode="padded"), replace(mixed, phase="prefill")]
    assert len(sources(programs, *sharing)) == 1
    assert len({programs.program(each).feeds[0].arguments for each in sharing}) == 4


@pytest.mark.parametrize("mode", ["static", "merged"])
def test_a_program_with_weights_in_it_serves_one_adapter(programs: OnnxPrograms, mixed: Workload, mode: Any) -> None:
    workload = replace(mixed, mode=mode)
    assert len(sources(programs, workload, ranked(workload, 2))) == 2
    assert len(sources(programs, workload, replace(workload, phase="prefill", batch=3))) == 1


def test_another_placement_is_another_program(programs: OnnxPrograms, mixed: Workload) -> None:
    assert len(sources(programs, mixed, mixed.with_configuration(Configuration.of({DOWN_PROJ: 4})))) == 2


def test_placements_in_open_graphs_share_a_program(programs: OnnxPrograms, mixed: Workload) -> None:
    other = mixed.with_configuration(Configuration.of({DOWN_PROJ: 4}))
    assert len(sources(programs, *(replace(each, graph="open") for each in (mixed, other)))) == 1


def test_needs_are_shared_where_programs_are(programs: OnnxPrograms, mixed: Workload) -> None:
    swappable, larger, static = (
        programs.need(each) for each in (mixed, ranked(mixed, 2), replace(mixed, mode="static"))
    )
    assert swappable.program == larger.program
    assert static.program != swappable.program
    assert Path(swappable.program) == programs.program(mixed).files[0].path
    grown = 4 * (2 * 96 + 6 * 80 + 4 * 80)
    assert larger.program_bytes == swappable.program_bytes == programs.need(mixed.base).program_bytes
    assert larger.feed_bytes - swappable.feed_bytes == grown
    # Keys and values of two layers, two heads of 16 each, for five positions and one more; read and written.
    cache = 2 * 4 * 2 * 2 * 6 * 2 * 16
    assert static.feed_bytes == cache
    assert static.program_bytes - swappable.program_bytes == swappable.feed_bytes - cache == grown


def test_a_session_packs_the_weights_of_its_base_for_itself(programs: OnnxPrograms, mixed: Workload) -> None:
    base = programs.need(mixed.base)
    assert programs.need(mixed.merged).program_bytes == base.program_bytes > 0
    quantised = replace(mixed, quantisation="int4")
    assert programs.need(quantised).program_bytes == programs.need(quantised.base).program_bytes < base.program_bytes


def test_a_program_lists_its_graph_and_the_weights_it_names(programs: OnnxPrograms, mixed: Workload) -> None:
    base = programs.program(mixed.base)
    swappable, merged = (programs.program(replace(mixed, mode=mode)) for mode in ("swappable", "merged"))
    assert [file.name for file in base.files] == ["packed.onnx", "model.onnx.data"]
    assert [file.name for file in swappable.files] == [swappable.source, "model.onnx.data"]
    assert [file.name for file in merged.files] == [merged.source, f"{merged.source}.data", "model.onnx.data"]
    for file in (*base.files, *swappable.files, *merged.files):
        assert file.digest == hashlib.sha256(file.path.read_bytes()).hexdigest()


def test_programs_of_one_base_name_the_same_weights(programs: OnnxPrograms, mixed: Workload) -> None:
    weights = {programs.program(each).files[1].digest for each in (mixed, mixed.base, replace(mixed, mode="static"))}
    assert len(weights) == 1


def test_the_embedding_of_a_quantised_base_stays_as_it_is_on_the_disk(programs: OnnxPrograms, mixed: Workload) -> None:
    base, quantised = mixed.base, replace(mixed, quantisation="int4").base
    embedding = 4 * base.shape.vocabulary * base.shape.hidden
    assert programs.disk_bytes(base) >= 4 * base.shape.parameters
    assert programs.need(quantised).program_bytes + embedding < programs.disk_bytes(quantised)
    assert programs.disk_bytes(quantised) < programs.disk_bytes(base)


def test_a_feed_says_how_each_input_is_made(programs: OnnxPrograms, mixed: Workload) -> None:
    (feed,) = programs.program(replace(mixed, batch=2)).feeds
    shapes = {name: spec["shape"] for name, spec in specs(feed).items()}
    caches = {f"past_key_values.{layer}.{half}": [2, 2, 5, 16] for layer in (0, 1) for half in ("key", "value")}
    sites = {path: (32 if path.endswith("q_proj") else 48, rank) for path, rank in MIXED.items()}
    adapters = {f"{path}.lora_A": list(shape) for path, shape in sites.items()}
    adapters |= {f"{path}.lora_B": [rank, 64 if "q_proj" in path else 32] for path, rank in MIXED.items()}
    assert shapes == {"input_ids": [2, 1], "attention_mask": [2, 6], **caches, **adapters}
    assert feed.name == replace(mixed, batch=2).hash


def test_prefill_starts_from_an_empty_cache(programs: OnnxPrograms, mixed: Workload) -> None:
    (feed,) = programs.program(replace(mixed, phase="prefill", tokens=9)).feeds
    assert specs(feed)["input_ids"]["shape"] == [1, 9]
    assert specs(feed)["past_key_values.1.value"]["shape"] == [1, 2, 0, 16]


def test_padding_goes_up_to_the_largest_rank(programs: OnnxPrograms, mixed: Workload) -> None:
    (feed,) = programs.program(replace(mixed, mode="padded")).feeds
    whole = {name: specs(feed)[name].get("padded_to", specs(feed)[name]["shape"]) for name in specs(feed)}
    assert [whole[f"{path}.lora_A"][1] for path in MIXED] == [6, 6, 6]
    assert [whole[f"{path}.lora_B"][0] for path in MIXED] == [6, 6, 6]


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_every_mode_computes_what_torch_does(
    programs: OnnxPrograms, outputs: Outputs, torch_logits: Logits, mixed: Workload, phase: Any
) -> None:
    """The torch worker makes the same weights; it is given the inputs of the graph."""
    workload = replace(mixed, phase=phase, tokens=7, batch=2)
    merged = build(**json.loads(TorchPrograms().program(workload.merged).arguments))
    inputs = {name: filled(name, spec) for name, spec in specs(programs.program(workload.merged).feeds[0]).items()}
    expected = torch_logits(merged._model, inputs).ravel().tolist()
    ours = [programs.program(replace(workload, mode=mode)) for mode in programs.modes(workload)]
    found = [outputs(program) for program in (*ours, programs.merged_reference(workload))]
    assert len(found) == 5
    assert max(largest_difference(each, expected) for each in found) <= 1e-4
    assert largest_difference(outputs(programs.program(workload.base)), expected) > 1e-3


@pytest.mark.parametrize("quantisation", ["int4", "int8"])
def test_requantised_weights_are_the_rounded_sums(programs: OnnxPrograms, mixed: Workload, quantisation: Any) -> None:
    workload = replace(mixed, mode="requantised", quantisation=quantisation)
    found = dequantised_weights(programs.program(workload).files[0].path)
    model = random_model(json.loads(mixed.shape.config))
    sums = {f"{path}.weight": model.get_submodule(path).weight.numpy().T for path in mixed.shape.site_by_path}
    for path, rank in MIXED.items():
        site = mixed.shape.site_by_path[path]
        A, B = (half.array() for half in random_adapter(path, rank, site.in_features, site.out_features))
        sums[f"{path}.weight"] = sums[f"{path}.weight"] + A @ B
    expected = joined(rounded_weights(sums, quantisation))
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("this was made already")


def test_what_is_in_the_cache_is_not_made_again(
    programs: OnnxPrograms, mixed: Workload, onnx_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [replace(mixed, mode=mode) for mode in programs.modes(mixed)]
    before = [programs.program(workload).files for workload in wanted]
    written = {file: file.read_bytes() for file in onnx_cache.rglob("*") if file.is_file()}
    monkeypatch.setattr(disk_cache, "cached_folder", refuse)
    monkeypatch.setattr(disk_cache, "cached_file", refuse)
    later = OnnxPrograms(CPU.info(), cache=onnx_cache)
    assert [later.program(workload).files for workload in wanted] == before
    assert {file: file.read_bytes() for file in onnx_cache.rglob("*") if file.is_file()} == written


DAMAGE: dict[str, Callable[[Path], object]] = {
    "absent": lambda file: file.unlink(),
    "empty": lambda file: file.write_bytes(b""),
    "half": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("mode", ["swappable", "static", "merged"])
def test_a_program_that_is_not_whole_is_made_again(
    programs: OnnxPrograms, outputs: Outputs, mixed: Workload, monkeypatch: pytest.MonkeyPatch, mode: Any, damage: str
) -> None:
    workload = replace(mixed, mode=mode)
    before = outputs(programs.program(workload))
    DAMAGE[damage](programs.program(workload).files[0].path)
    monkeypatch.setattr(disk_cache, "cached_folder", refuse)
    assert outputs(programs.program(workload)) == before


@pytest.mark.parametrize("lost", ["model.onnx", "packed.onnx", "base.json"])
def test_a_base_that_had_to_make_room_in_part_is_made_again(
    programs: OnnxPrograms,
    outputs: Outputs,
    mixed: Workload,
    onnx_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    lost: str,
) -> None:
    """Of a copy of the cache, from which the export is then taken."""
    before = outputs(programs.program(mixed))
    shutil.copytree(onnx_cache, tmp_path, dirs_exist_ok=True)
    exported = programs._bases.folder(mixed)
    monkeypatch.setattr(onnx_export, "export_decoder", lambda _, folder, module: copied(exported, folder))
    for file in tmp_path.rglob(lost):
        file.unlink()
    assert outputs(OnnxPrograms(CPU.info(), cache=tmp_path).program(mixed)) == before


def copied(exported: Path, folder: Path) -> None:
    shutil.copytree(exported, folder, dirs_exist_ok=True)


def test_a_model_of_the_same_shape_lends_its_weights(
    decoder: Callable[..., PreTrainedModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored, exported = decoder("llama"), []
    stored.save_pretrained(tmp_path / "model")
    source = open_model(str(tmp_path / "model"))

    def export(model: PreTrainedModel, folder: Path, *, module: str) -> OnnxBase:
        exported.append(model)
        raise OSError("that is enough")

    monkeypatch.setattr(onnx_export, "export_decoder", export)
    ours = OnnxPrograms(CPU.info(), cache=tmp_path / "cache", weights=source)
    for scope in ("model", "block"):
        with pytest.raises(StorageError, match="that is enough"):
            ours.program(Workload(source.shape, scope=scope))
    sums = [float(model.get_submodule("model.layers.0.mlp.up_proj").weight.abs().sum()) for model in exported]
    assert sums[0] == float(stored.get_submodule("model.layers.0.mlp.up_proj").weight.abs().sum())
    assert sums[1] != sums[0]


def test_a_stub_is_a_model_like_any_other(programs: OnnxPrograms, outputs: Outputs, llama: ModelShape) -> None:
    stub = llama.stub(1)
    program = programs.program(Workload(stub, Configuration.uniform(stub, 2), past=5))
    assert [name for name in specs(program.feeds[0]) if name.startswith("past")] == [
        "past_key_values.0.key",
        "past_key_values.0.value",
    ]
    assert len(outputs(program)) == stub.vocabulary


def test_a_stub_keeps_the_widths_and_the_head(shape: ModelShape) -> None:
    stub = shape.stub(1)
    assert stub.sites == tuple(site for site in shape.sites if site.layer == 0)
    assert replace(stub, layers=2, config=shape.config) == shape


def test_a_stub_keeps_the_types_of_its_layers(configs: Mapping[str, Callable[[], Any]]) -> None:
    config = configs["gemma2"]()
    stub = ModelShape.from_config(config).stub(1)
    assert json.loads(stub.config)["layer_types"] == config.layer_types[:1]


def test_a_stub_of_all_layers_is_the_model(shape: ModelShape) -> None:
    assert shape.stub(2) == shape


@pytest.mark.parametrize("layers", [0, 3])
def test_a_stub_with_other_layers_than_the_model_is_refused(llama: ModelShape, layers: int) -> None:
    with pytest.raises(InputError, match=f"a stub of this model has 1 to 2 layers, not {layers}"):
        llama.stub(layers)


def test_an_export_that_memory_does_not_hold_is_refused_before_it_begins(tmp_path: Path) -> None:
    wide = {"model_type": "llama", "num_hidden_layers": 500, "hidden_size": 65536, "intermediate_size": 262144}
    shape = ModelShape.from_mapping({**wide, "num_attention_heads": 64, "vocab_size": 100000})
    programs = programs_for(ort_cpu(threads=1).info(), cache=tmp_path)
    with pytest.raises(InputError, match="free memory, or measure it by stubs"):
        programs.program(Workload(shape).base)
