"""Models with narrower layers, as torch and ONNX Runtime run them, against plain models with sliced weights."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx_graphs import Export, Inputs, Logits, beside
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from adaptare.devices import Loaded, Program, Worker, ort_cpu
from adaptare.devices.agent.feeds import filled
from adaptare.profiler import Configuration, FixedRounds, ModelShape, Workload, profile
from adaptare.profiler.measuring import Memory, fed_bytes
from adaptare.profiler.measuring.parts import blocks_of
from adaptare.profiler.measuring.probe import Subject
from adaptare.profiler.models.random_model import random_model
from adaptare.profiler.programs.builders import (
    SimulatedPrograms,
    TorchPrograms,
    memory_bytes,
    own_bytes,
)
from adaptare.profiler.programs.onnx.export import run_model
from adaptare.profiler.programs.onnx.narrow import narrow_base, write_narrow
from adaptare.profiler.programs.onnx.programs import OnnxPrograms
from adaptare.profiler.programs.torch.programs import build

QUERY, DOWN, GATE = "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj", "model.layers.0.mlp.gate_proj"
# No multiples of 32, which quantised weights come in blocks of.
WIDTHS = {0: 20, 1: 33}
CPU = ort_cpu(threads=1, timeout_s=60)
Configs = Mapping[str, Callable[[], PreTrainedConfig]]


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


@pytest.mark.parametrize("family", ["llama", "gemma2", "phi3", "biased"])
def test_a_narrower_torch_model_computes_what_sliced_weights_do(
    configs: Configs, torch_programs: TorchPrograms, family: str
) -> None:
    content = configs["llama" if family == "biased" else family]().to_dict()
    shape = ModelShape.from_mapping({**content, "mlp_bias": True} if family == "biased" else content)
    found = torch_outputs(torch_programs, narrow(shape, phase="prefill", tokens=6))
    plain = random_model(json.loads(shape.config))
    ids = torch.randint(0, shape.vocabulary, (1, 6), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        usual = plain(ids).logits[0, -1].numpy()
        expected = sliced(plain, WIDTHS)(ids).logits[0, -1].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.abs(found - usual).max() > 1e-4


@pytest.mark.parametrize(
    ("family", "scope", "kind"), [("llama", "model", "dora"), ("phi3", "model", "lora"), ("llama", "block", "lora")]
)
def test_an_adapter_on_narrower_torch_layers_is_the_same_merged_in_file_and_in_memory(
    configs: Configs, torch_programs: TorchPrograms, family: str, scope: Any, kind: Any
) -> None:
    shape = ModelShape.from_config(configs[family]())
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


@pytest.mark.parametrize("family", ["llama", "phi3"])
def test_a_narrower_graph_computes_what_sliced_weights_do(
    family: str,
    export: Export,
    decoder: Callable[..., PreTrainedModel],
    inputs_of: Inputs,
    torch_logits: Logits,
    tmp_path: Path,
) -> None:
    _, base = export(family)
    model, copied = decoder(family), beside(base, tmp_path)
    parts = Configuration.of(widths=WIDTHS).parts(ModelShape.from_config(model.config))
    write_narrow(copied, parts, tmp_path / "narrow.onnx")
    found = narrow_base(copied, "narrow.onnx", 0)
    inputs = inputs_of(base)
    expected = torch_logits(sliced(model, WIDTHS), inputs)
    assert np.abs(run_model(found.model, inputs)[0] - expected).max() <= 1e-4 * np.abs(expected).max()
    assert np.abs(run_model(base.model, inputs)[0] - expected).max() > 1e-2 * np.abs(expected).max()


def test_narrower_quantised_bases_of_onnx_runtime_compute_what_sliced_weights_do(
    llama: ModelShape, onnx_programs: OnnxPrograms, outputs: Callable[[Program], NDArray[np.float64]]
) -> None:
    workload = narrow(llama, quantisation="int8", phase="prefill", tokens=6)
    usual = outputs(onnx_programs.program(workload.base))
    found = outputs(onnx_programs.program(workload))
    feed = onnx_programs.program(workload).feeds[0]
    ids = torch.from_numpy(filled("input_ids", json.loads(feed.arguments)["inputs"]["input_ids"]))
    with torch.inference_mode():
        expected = sliced(random_model(json.loads(llama.config)), WIDTHS)(ids).logits[0, -1].numpy()
    assert np.abs(found - expected).max() <= 0.02 * np.abs(expected).max()
    assert np.abs(found - usual).max() > np.abs(found - expected).max()


@pytest.mark.parametrize(("scope", "quantisation"), [("model", "int4"), ("block", "none")])
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
    assert own_bytes(narrower.bare) == linears
    assert SimulatedPrograms().need(narrower).program_bytes == own_bytes(narrower)


def test_blocks_of_unlike_widths_are_timed_apart(llama: ModelShape) -> None:
    counts = blocks_of(narrow(llama, {QUERY: 2}))
    assert {each.configuration: count for each, count in counts.items()} == {
        Configuration.of({QUERY: 2}, widths={0: 20}): 1,
        Configuration.of({}, widths={0: 33}): 1,
    }


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
