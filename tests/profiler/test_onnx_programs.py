"""What ONNX Runtime is given for workloads, and that it can be timed."""

import hashlib
import importlib.util
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx_graphs import Logits, joined
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

Outputs = Callable[[Program], NDArray[np.float64]]

DOWN_PROJ = "model.layers.1.mlp.down_proj"
MIXED = {"model.layers.0.self_attn.q_proj": 2, "model.layers.0.mlp.down_proj": 6, DOWN_PROJ: 4}
CPU = ort_cpu(threads=1, timeout_s=60)


@pytest.fixture(scope="module")
def programs(onnx_cache: Path) -> OnnxPrograms:
    return OnnxPrograms(CPU.info(), cache=onnx_cache)


@pytest.fixture
def mixed(llama: ModelShape) -> Workload:
    return Workload(llama, Configuration.of(MIXED), past=5)


def specs(feed: Feed) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads(feed.arguments)["inputs"]
    return found


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"mode": "merged", "quantisation": "int4"},
            "cannot be merged into int4 weights as they are; apply it swappable or static, or merge .*: requantised",
        ),
        ({"mode": "requantised"}, "needs a quantised base; merge the adapter instead"),
        ({"dtype": "bfloat16"}, "made in float32, not bfloat16; quantise the base instead"),
        ({"kind": "dora"}, r"DoRA is not put into ONNX graphs: .*; merge it with PEFT's"),
        ({"kind": "dora", "mode": "merged"}, r"DoRA is not put into ONNX graphs: .*; merge it with PEFT's"),
    ],
    ids=str,
)
def test_what_graphs_cannot_do_is_refused_with_advice(
    programs: OnnxPrograms, mixed: Workload, fields: dict[str, Any], message: str
) -> None:
    kind = fields.pop("kind", "lora")
    workload = replace(mixed.with_configuration(replace(mixed.configuration, kind=kind)), **fields)
    for ask in (programs.check, programs.need, programs.program, programs.merged_reference):
        with pytest.raises(InputError, match=message):
            ask(workload)


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
    ],
)
def test_modes_are_those_that_make_sense(
    programs: OnnxPrograms, llama: ModelShape, ranks: dict[str, int], quantisation: Any, modes: tuple[str, ...]
) -> None:
    assert programs.modes(Workload(llama, Configuration.of(ranks), quantisation=quantisation)) == modes


def sources(programs: OnnxPrograms, *workloads: Workload) -> int:
    """Number of programs for some workloads."""
    return len({str(programs.program(workload).files[0].path) for workload in workloads})


def ranked(workload: Workload, factor: int) -> Workload:
    """The same placement with other ranks."""
    return workload.with_configuration(
        Configuration.of({path: factor * rank for path, rank in workload.configuration.ranks})
    )


@pytest.mark.parametrize(
    ("fields", "by_rank", "by_placement"),
    [({}, 1, 2), ({"graph": "open"}, 1, 1), ({"mode": "static"}, 2, 2), ({"mode": "merged"}, 2, 2)],
)
def test_programs_serve_other_ranks_if_swappable_and_other_placements_in_open_graphs(
    programs: OnnxPrograms, mixed: Workload, fields: dict[str, Any], by_rank: int, by_placement: int
) -> None:
    workload = replace(mixed, **fields)
    elsewhere = workload.with_configuration(Configuration.of({DOWN_PROJ: 4}))
    assert sources(programs, workload, replace(workload, phase="prefill", batch=3)) == 1
    assert sources(programs, workload, ranked(workload, 2)) == by_rank
    assert sources(programs, workload, elsewhere) == by_placement
    assert sources(programs, mixed, replace(mixed, mode="padded")) == 1


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


def test_a_program_lists_its_graph_and_the_weights_it_names(programs: OnnxPrograms, mixed: Workload) -> None:
    base = programs.program(mixed.base)
    swappable, merged = (programs.program(replace(mixed, mode=mode)) for mode in ("swappable", "merged"))
    assert [file.name for file in base.files] == ["packed.onnx", "model.onnx.data"]
    assert [file.name for file in swappable.files] == [swappable.source, "model.onnx.data"]
    assert [file.name for file in merged.files] == [merged.source, f"{merged.source}.data", "model.onnx.data"]
    for file in (*base.files, *swappable.files, *merged.files):
        assert file.digest == hashlib.sha256(file.path.read_bytes()).hexdigest()


def test_a_feed_says_how_each_input_is_made(programs: OnnxPrograms, mixed: Workload) -> None:
    (feed,) = programs.program(replace(mixed, batch=2)).feeds
    shapes = {name: spec["shape"] for name, spec in specs(feed).items()}
    caches = {f"past_key_values.{layer}.{half}": [2, 2, 5, 16] for layer in (0, 1) for half in ("key", "value")}
    sites = {path: (32 if path.endswith("q_proj") else 48, rank) for path, rank in MIXED.items()}
    adapters = {f"{path}.lora_A": list(shape) for path, shape in sites.items()}
    adapters |= {f"{path}.lora_B": [rank, 64 if "q_proj" in path else 32] for path, rank in MIXED.items()}
    assert shapes == {"input_ids": [2, 1], "attention_mask": [2, 6], **caches, **adapters}
    assert feed.name == replace(mixed, batch=2).hash
    (prefill,) = programs.program(replace(mixed, phase="prefill", tokens=9)).feeds
    assert specs(prefill)["input_ids"]["shape"] == [1, 9]
    assert specs(prefill)["past_key_values.1.value"]["shape"] == [1, 2, 0, 16]


def test_padding_goes_up_to_the_largest_rank(programs: OnnxPrograms, mixed: Workload) -> None:
    (feed,) = programs.program(replace(mixed, mode="padded")).feeds
    whole = {name: spec.get("padded_to", spec["shape"]) for name, spec in specs(feed).items()}
    assert {(whole[f"{path}.lora_A"][1], whole[f"{path}.lora_B"][0]) for path in MIXED} == {(6, 6)}


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


@pytest.mark.parametrize(("phase", "past", "room"), [("decode", 5, 1), ("prefill", 0, 7)])
def test_a_shared_buffer_of_the_cache_has_room_for_the_tokens_of_a_call_and_computes_what_torch_does(
    onnx_cache: Path, torch_logits: Logits, mixed: Workload, phase: Any, past: int, room: int
) -> None:
    """New keys and values are written into it."""
    sharing = ort_cpu(threads=1, past_present_share_buffer=True)
    workload = replace(mixed, phase=phase, tokens=7, batch=2)
    programs = OnnxPrograms(sharing.info(), cache=onnx_cache)
    program = programs.program(workload)
    arguments = json.loads(program.feeds[0].arguments)
    inputs = {name: filled(name, spec) for name, spec in arguments["inputs"].items()}
    caches = set(arguments["shared"].values())
    assert caches == {name for name in inputs if name.startswith("past_key_values.")}
    assert {inputs[name].shape for name in caches} == {(2, 2, past + room, 16)}
    inputs |= {name: inputs[name][:, :, :past] for name in caches}
    merged = build(**json.loads(TorchPrograms().program(workload.merged).arguments))
    expected = torch_logits(merged._model, inputs).ravel().tolist()
    with sharing.open() as worker:
        for each in (program, programs.merged_reference(workload)):
            loaded = worker.load(each)
            name = each.feeds[0].name
            assert largest_difference(loaded.outputs[name], expected) <= 1e-4
            assert len(worker.run(loaded.program_id, name, 3)) == 3


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


@pytest.mark.parametrize(("mode", "left"), [("swappable", 0.0), ("static", 0.5), ("merged", 0.5)])
def test_a_program_that_is_not_whole_is_made_again(
    programs: OnnxPrograms, outputs: Outputs, mixed: Workload, monkeypatch: pytest.MonkeyPatch, mode: Any, left: float
) -> None:
    workload = replace(mixed, mode=mode)
    before = list(outputs(programs.program(workload)))
    file = programs.program(workload).files[0].path
    file.write_bytes(file.read_bytes()[: int(left * file.stat().st_size)])
    monkeypatch.setattr(disk_cache, "cached_folder", refuse)
    assert list(outputs(programs.program(workload))) == before


def test_a_base_that_had_to_make_room_in_part_is_made_again(
    programs: OnnxPrograms, mixed: Workload, onnx_cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of a copy of the cache, from which the export is then taken."""
    before = [file.digest for file in programs.program(mixed).files]
    exported, copies = programs._bases.folder(mixed), list[Path]()

    def copied(_: PreTrainedModel, folder: Path, *, module: str) -> None:
        copies.append(shutil.copytree(exported, folder, dirs_exist_ok=True))

    shutil.copytree(onnx_cache, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(onnx_export, "export_decoder", copied)
    for lost in ("packed.onnx", "base.json"):
        for file in tmp_path.rglob(lost):
            file.unlink()
        found = OnnxPrograms(CPU.info(), cache=tmp_path).program(mixed).files
        assert [file.digest for file in found] == before
    assert len(copies) == 2


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


def test_an_export_that_memory_does_not_hold_is_refused_before_it_begins(tmp_path: Path) -> None:
    wide = {"model_type": "llama", "num_hidden_layers": 500, "hidden_size": 65536, "intermediate_size": 262144}
    shape = ModelShape.from_mapping({**wide, "num_attention_heads": 64, "vocab_size": 100000})
    programs = programs_for(ort_cpu(threads=1).info(), cache=tmp_path)
    with pytest.raises(InputError, match="free memory, or measure it by stubs"):
        programs.program(Workload(shape).base)
