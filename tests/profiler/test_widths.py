"""Models with narrower layers, as torch and ONNX Runtime run them, against plain models with sliced weights."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import LlamaConfig, PreTrainedModel

from adaptare.devices import Device, Loaded, Program, TorchCpu, Worker, ort_cpu
from adaptare.devices.agent.feeds import filled
from adaptare.profiler import Configuration, FixedRounds, ModelShape, Workload, profile, programs_for
from adaptare.profiler.measuring import Memory, fed_bytes
from adaptare.profiler.measuring.parts import blocks_of
from adaptare.profiler.measuring.probe import Subject
from adaptare.profiler.measuring.stubs import stub_of
from adaptare.profiler.models.random_model import random_model
from adaptare.profiler.programs.builders import (
    SimulatedPrograms,
    TorchPrograms,
    memory_bytes,
    own_bytes,
)
from adaptare.profiler.programs.onnx.base import OnnxBase
from adaptare.profiler.programs.onnx.export import export_decoder, run_model
from adaptare.profiler.programs.onnx.narrow import narrow_base, write_narrow
from adaptare.profiler.programs.onnx.programs import OnnxPrograms
from adaptare.profiler.programs.torch.programs import build

QUERY, DOWN, GATE = "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj", "model.layers.0.mlp.gate_proj"
# No multiples of 32, which quantised weights come in blocks of.
WIDTHS = {0: 20, 1: 33}
CPU = ort_cpu(threads=1, timeout_s=60)
Logits = Callable[[PreTrainedModel, Mapping[str, NDArray[Any]]], NDArray[np.float32]]


def sliced(model: PreTrainedModel, widths: Mapping[int, int]) -> PreTrainedModel:
    """The first neurons of some MLPs, by hand."""

    def rows(linear: nn.Linear, *kept: slice) -> None:
        linear.weight = nn.Parameter(torch.cat([linear.weight[part] for part in kept]), requires_grad=False)
        if linear.bias is not None:
            linear.bias = nn.Parameter(torch.cat([linear.bias[part] for part in kept]), requires_grad=False)

    for layer, width in widths.items():
        mlp, size = model.model.layers[layer].mlp, model.config.intermediate_size
        if hasattr(mlp, "gate_up_proj"):
            rows(mlp.gate_up_proj, slice(width), slice(size, size + width))
        else:
            rows(mlp.gate_proj, slice(width))
            rows(mlp.up_proj, slice(width))
        mlp.down_proj.weight = nn.Parameter(mlp.down_proj.weight[:, :width].clone(), requires_grad=False)
    return model


def narrow(shape: ModelShape, ranks: Mapping[str, int] | None = None, **fields: Any) -> Workload:
    return Workload(shape, Configuration.of(ranks or {}, widths=WIDTHS), past=5, **fields)


def torch_outputs(programs: TorchPrograms, workload: Workload, *, in_file: bool = True) -> NDArray[np.float64]:
    program = programs.program(workload)
    folder = str(Path(program.files[0].path).parent) if in_file else None
    made = build(**json.loads(program.arguments), folder=folder)
    call, restore = made.bind({"phase": workload.phase, "batch": workload.batch, "length": workload.length})
    restore()
    return np.array(call().tolist())


@pytest.fixture
def torch_programs(tmp_path: Path) -> TorchPrograms:
    return TorchPrograms(cache=tmp_path)


def test_a_narrower_torch_model_computes_what_sliced_weights_do(
    shape: ModelShape, torch_programs: TorchPrograms
) -> None:
    found = torch_outputs(torch_programs, narrow(shape, phase="prefill", tokens=6))
    plain = random_model(json.loads(shape.config))
    ids = torch.randint(0, shape.vocabulary, (1, 6), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        usual = plain(ids).logits[0, -1].numpy()
        expected = sliced(plain, WIDTHS)(ids).logits[0, -1].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.abs(found - usual).max() > 1e-4


def test_biases_of_narrower_layers_are_sliced_too(torch_programs: TorchPrograms) -> None:
    shape = ModelShape.from_config(_biased())
    found = torch_outputs(torch_programs, narrow(shape, phase="prefill", tokens=6))
    ids = torch.randint(0, shape.vocabulary, (1, 6), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = sliced(random_model(json.loads(shape.config)), WIDTHS)(ids).logits[0, -1].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("scope", ["model", "block"])
@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_an_adapter_on_narrower_torch_layers_is_the_same_merged_in_file_and_in_memory(
    shape: ModelShape, torch_programs: TorchPrograms, scope: Any, kind: Any
) -> None:
    ranks = {site.path: 1 + index % 4 for index, site in enumerate(shape.sites)}
    configuration = Configuration.of(ranks, widths=WIDTHS, kind=kind)
    swappable = Workload(shape, configuration, scope=scope, phase="prefill", tokens=6)
    ours, merged = (torch_outputs(torch_programs, each) for each in (swappable, swappable.merged))
    in_memory = torch_outputs(torch_programs, swappable.merged, in_file=False)
    without = torch_outputs(torch_programs, swappable.with_configuration(configuration.without_adapter))
    scale = np.abs(merged).max()
    assert np.abs(ours - merged).max() <= 1e-5 * scale
    assert np.abs(in_memory - merged).max() <= 1e-6 * scale
    assert np.abs(ours - without).max() > 1e-3 * scale


def test_whole_neurons_stay_in_the_memory_of_the_base(llama: ModelShape, torch_programs: TorchPrograms) -> None:
    usual, narrower = (
        build(**json.loads(torch_programs.program(each).arguments)) for each in (Workload(llama).base, narrow(llama))
    )
    pointers = [made._model.get_submodule(GATE).get_parameter("weight").data_ptr() for made in (usual, narrower)]
    assert pointers[0] == pointers[1]


@pytest.mark.parametrize("family", ["llama", "phi3"])
def test_a_narrower_graph_computes_what_sliced_weights_do(
    family: str,
    export: Callable[..., tuple[PreTrainedModel, OnnxBase]],
    decoder: Callable[..., PreTrainedModel],
    inputs_of: Callable[..., dict[str, NDArray[Any]]],
    torch_logits: Logits,
    tmp_path: Path,
) -> None:
    _, base = export(family)
    model = decoder(family)
    found = _narrowed(base, ModelShape.from_config(model.config), tmp_path / "copy")
    inputs = inputs_of(base)
    expected = torch_logits(sliced(model, WIDTHS), inputs)
    assert np.abs(run_model(found.model, inputs)[0] - expected).max() <= 1e-4 * np.abs(expected).max()
    assert np.abs(run_model(base.model, inputs)[0] - expected).max() > 1e-2 * np.abs(expected).max()


@pytest.mark.slow
def test_biases_in_a_narrower_graph_are_sliced_too(
    inputs_of: Callable[..., dict[str, NDArray[Any]]], torch_logits: Logits, tmp_path: Path
) -> None:
    model = random_model(_biased().to_dict())
    for name, weight in model.named_parameters():
        if name.endswith("mlp.gate_proj.bias"):
            weight.copy_(torch.arange(len(weight)) / 10)
    (tmp_path / "base").mkdir()
    base = export_decoder(model, tmp_path / "base")
    inputs = inputs_of(base)
    found = _narrowed(base, ModelShape.from_config(model.config), tmp_path / "copy")
    expected = torch_logits(sliced(model, WIDTHS), inputs)
    assert np.abs(run_model(found.model, inputs)[0] - expected).max() <= 1e-4 * np.abs(expected).max()


def _biased() -> LlamaConfig:
    return LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        vocab_size=72,
        head_dim=16,
        mlp_bias=True,
    )


def _narrowed(base: OnnxBase, shape: ModelShape, folder: Path) -> OnnxBase:
    shutil.copytree(base.folder, folder)
    copied = OnnxBase.load(folder)
    narrow = Configuration.of(widths=WIDTHS)
    write_narrow(copied, narrow.parts(shape), folder / "narrow.onnx")
    return narrow_base(copied, "narrow.onnx", 0)


@pytest.mark.parametrize("quantisation", ["none", "int8", "int4"])
def test_narrower_bases_of_onnx_runtime_compute_what_sliced_weights_do(
    llama: ModelShape,
    onnx_programs: OnnxPrograms,
    outputs: Callable[[Program], NDArray[np.float64]],
    quantisation: Any,
) -> None:
    workload = narrow(llama, quantisation=quantisation, phase="prefill", tokens=6)
    usual = outputs(onnx_programs.program(workload.base))
    found = outputs(onnx_programs.program(workload))
    seen = json.loads(onnx_programs.program(workload).feeds[0].arguments)["inputs"]["input_ids"]
    ids = torch.from_numpy(filled("input_ids", seen))
    with torch.inference_mode():
        expected = sliced(random_model(json.loads(llama.config)), WIDTHS)(ids).logits[0, -1].numpy()
    allowed = {"none": 1e-5, "int8": 0.02, "int4": 0.3}[quantisation] * np.abs(expected).max()
    assert np.abs(found - expected).max() <= allowed
    if quantisation != "int4":  # 4 bits make more than narrower layers of random weights do
        assert np.abs(found - usual).max() > np.abs(found - expected).max()


@pytest.mark.parametrize("quantisation", ["none", "int8", "int4"])
@pytest.mark.parametrize("scope", ["model", "block"])
def test_every_mode_on_narrower_layers_of_onnx_runtime_agrees_with_its_merged_reference(
    llama: ModelShape, onnx_programs: OnnxPrograms, scope: Any, quantisation: Any
) -> None:
    at = narrow(llama, {QUERY: 2, DOWN: 4, GATE: 6}, scope=scope, quantisation=quantisation, caches="hot")
    wanted = [replace(at, mode=mode) for mode in onnx_programs.modes(at)]
    wanted.append(replace(at, configuration=Configuration.of({}, widths=WIDTHS)))
    if scope == "model":
        wanted.append(replace(at, graph="open"))
    found = profile(wanted, reference=at.base, device=CPU, stop=FixedRounds(1), seed=0, programs=onnx_programs)
    assert [each.failure for each in found] == [""] * len(wanted)


def test_narrower_bases_share_the_weights_that_stay(llama: ModelShape, onnx_programs: OnnxPrograms) -> None:
    usual, narrower = (onnx_programs.program(each) for each in (Workload(llama, past=5).base, narrow(llama)))
    assert {file.path for file in usual.files[1:]} < {file.path for file in narrower.files}
    assert onnx_programs.disk_bytes(narrow(llama)) == onnx_programs.disk_bytes(Workload(llama)) - _taken_bytes(llama)


@pytest.mark.slow
@pytest.mark.parametrize("device", [TorchCpu(threads=1), CPU], ids=["torch-cpu", "ort-cpu"])
def test_narrower_layers_are_timed_with_and_without_adapter(
    llama: ModelShape, device: Device, onnx_cache: Path
) -> None:
    wanted = [narrow(llama), narrow(llama, {QUERY: 2, DOWN: 4}), narrow(llama, scope="block", caches="cold")]
    programs = programs_for(device.info(), cache=onnx_cache)
    found = profile(wanted, reference=wanted[0].base, device=device, stop=FixedRounds(2), seed=0, programs=programs)
    assert [each.failure for each in found] == [""] * len(wanted)


def _taken_bytes(shape: ModelShape) -> int:
    return 4 * 3 * shape.hidden * sum(shape.intermediate - width for width in WIDTHS.values())


def test_narrower_layers_take_less_memory(llama: ModelShape) -> None:
    usual, narrower = Workload(llama, past=5), narrow(llama)
    assert usual.base_bytes - narrower.base_bytes == _taken_bytes(llama)
    assert memory_bytes(usual) - memory_bytes(narrower) == _taken_bytes(llama)


def test_beside_the_base_only_narrower_linears_and_the_adapter_take_memory(llama: ModelShape) -> None:
    narrower = narrow(llama, {DOWN: 4})
    linears = 4 * 3 * llama.hidden * sum(WIDTHS.values())
    assert narrower.adapter_bytes == 4 * 4 * (33 + 32)
    assert own_bytes(narrower) == linears + narrower.adapter_bytes
    assert own_bytes(narrower.with_configuration(Configuration.of({}, widths=WIDTHS))) == linears
    assert SimulatedPrograms().need(narrower).program_bytes == own_bytes(narrower)


def test_another_width_is_another_program(llama: ModelShape, torch_programs: TorchPrograms) -> None:
    other = narrow(llama).with_configuration(Configuration.of({}, widths={0: 20}))
    assert len({torch_programs.program(each).hash for each in (Workload(llama), narrow(llama), other)}) == 3


def test_blocks_of_unlike_widths_are_timed_apart(llama: ModelShape) -> None:
    counts = blocks_of(narrow(llama, {QUERY: 2}))
    assert {each.configuration: count for each, count in counts.items()} == {
        Configuration.of({QUERY: 2}, widths={0: 20}): 1,
        Configuration.of({}, widths={0: 33}): 1,
    }


def test_stubs_have_the_widths_of_all_layers() -> None:
    shape = ModelShape("llama", 12, 32, 4, 2, 8, 48, 64, LlamaConfig(num_hidden_layers=12).to_json_string())
    alike = Workload(shape, Configuration.of(widths=dict.fromkeys(range(12), 24)))
    assert stub_of(alike, 2).configuration == Configuration.of(widths={0: 24, 1: 24})
    with pytest.raises(Exception, match="stubs need the same ranks and widths in every layer"):
        stub_of(alike.with_configuration(Configuration.of(widths={0: 24})), 2)


@pytest.mark.parametrize("mode", ["merged", "swappable"])
def test_memory_and_inputs_are_of_the_model_as_it_is_cut(llama: ModelShape, mode: Any) -> None:
    """Not of the uncut base: a merged model would save nothing, and caches of left out layers would count as inputs."""
    cut = Workload(llama, Configuration.of({QUERY: 2}, widths=WIDTHS, left_out=[llama.layers - 1]), past=5, mode=mode)
    programs, asked = SimulatedPrograms(), list[Program]()

    class Recording:
        def load(self, program: Program) -> Loaded:
            asked.append(program)
            return Loaded("1", 8, 0.0, {}, {})

    subject = Subject(cut, programs.program(cut), programs)
    assert Memory().visit(cast(Worker, Recording()), subject)["memory"] == [8.0]
    assert asked == [programs.program(cut.bare if mode == "merged" else cut)]
    assert asked != [programs.program(cut.base)]
    assert fed_bytes(cut, TorchPrograms()) == 0
