"""Models with layers left out, as torch and ONNX Runtime run them, against stock models with these layers deleted."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx_graphs import Export, Inputs, beside, graph_of
from shallow_models import CONFIGS, LAYERS, deleted
from transformers import DynamicCache, PreTrainedModel

from adaptare.core import InputError
from adaptare.devices import TorchCpu, ort_cpu
from adaptare.profiler import Configuration, FixedRounds, ModelShape, Workload, profile, programs_for
from adaptare.profiler.measuring.parts import blocks_of
from adaptare.profiler.measuring.stubs import stub_of
from adaptare.profiler.models.random_model import cache_argument, random_model
from adaptare.profiler.programs.builders import TorchPrograms
from adaptare.profiler.programs.onnx.export import run_model, tolerance_of
from adaptare.profiler.programs.onnx.narrow import narrow_base, write_narrow
from adaptare.profiler.programs.onnx.programs import OnnxPrograms
from adaptare.profiler.programs.torch.programs import build

LEFT_OUT = (0, 2, 3)
DOWN, GATE = "model.layers.{}.mlp.down_proj", "model.layers.{}.mlp.gate_proj"
RANKS = {DOWN.format(4): 4, GATE.format(5): 2, "model.layers.1.self_attn.q_proj": 3}
CPU = ort_cpu(threads=1, timeout_s=60)
TorchOutputs = Callable[[PreTrainedModel, Mapping[str, NDArray[Any]]], list[NDArray[np.float32]]]


def shallow(shape: ModelShape, ranks: Mapping[str, int] | None = None, **fields: Any) -> Workload:
    return Workload(shape, Configuration.of(ranks or {}, left_out=LEFT_OUT), past=5, **fields)


def of_six(family: str = "llama") -> ModelShape:
    return ModelShape.from_config(CONFIGS[family])


def torch_logits(programs: TorchPrograms, workload: Workload) -> NDArray[np.float64]:
    program = programs.program(workload)
    bound = build(**json.loads(program.arguments), folder=str(Path(program.files[0].path).parent))
    call, restore = bound.bind({"phase": workload.phase, "batch": workload.batch, "length": workload.length})
    call()
    restore()
    return np.array(call().tolist())


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("family", CONFIGS)
def test_a_torch_program_computes_what_the_model_without_these_layers_does(
    family: str, phase: Any, tmp_path: Path
) -> None:
    shape = of_six(family)
    found = torch_logits(TorchPrograms(cache=tmp_path), shallow(shape, phase=phase, tokens=6))
    stock = deleted(random_model(json.loads(shape.config)), LEFT_OUT)
    generator = torch.Generator().manual_seed(0)
    cache = {cache_argument(stock): DynamicCache(config=stock.config), "use_cache": True}
    with torch.inference_mode():
        if phase == "decode":  # the program draws the tokens in its cache first
            stock(torch.randint(0, 260, (1, 5), generator=generator), **cache)
        ids = torch.randint(0, 260, (1, 1 if phase == "decode" else 6), generator=generator)
        expected = stock(ids, **cache).logits[0, -1].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_adapters_and_widths_of_other_layers_stay_on_their_layers_in_torch(tmp_path: Path) -> None:
    configuration = Configuration.of(RANKS, widths={1: 20, 5: 33}, left_out=LEFT_OUT)
    at = Workload(of_six(), configuration, phase="prefill", tokens=6)
    ours, merged, without = (torch_logits(TorchPrograms(cache=tmp_path), each) for each in (at, at.merged, at.bare))
    assert np.abs(ours - merged).max() <= 1e-5 * np.abs(merged).max()
    assert np.abs(ours - without).max() > 1e-3 * np.abs(merged).max()


def test_layers_and_whole_neurons_that_stay_are_in_the_memory_of_the_base(tmp_path: Path) -> None:
    programs, shape = TorchPrograms(cache=tmp_path), of_six()
    cut = Workload(shape, Configuration.of(widths={5: 33}, left_out=LEFT_OUT), past=5)
    usual, fewer = (build(**json.loads(programs.program(each).arguments)) for each in (Workload(shape).base, cut))
    pointers = [
        bound._model.get_submodule(GATE.format(layer)).get_parameter("weight").data_ptr()
        for bound, layer in ((usual, 5), (fewer, 2))
    ]
    assert pointers[0] == pointers[1]


@pytest.mark.parametrize(("family", "left_out"), [("qwen2", (1,)), ("gemma2", (0,)), ("gemma3", (1,)), ("phi3", (0,))])
def test_a_graph_computes_what_the_model_without_a_layer_does(
    family: str,
    left_out: tuple[int, ...],
    export: Export,
    inputs_of: Inputs,
    torch_outputs: TorchOutputs,
    tmp_path: Path,
) -> None:
    """Logits and the cache; and its file names nothing that is gone."""
    model, base = export(family)
    shape, copied = ModelShape.from_config(model.config), beside(base, tmp_path)
    write_narrow(copied, {}, tmp_path / "cut.onnx", left_out=left_out)
    found = narrow_base(copied, "cut.onnx", 0)
    assert set(found.sites) == {site.path for site in Configuration.of(left_out=left_out).sites(shape)}
    inputs = inputs_of(found)
    ours, expected = run_model(found.model, inputs), torch_outputs(deleted(model, left_out), inputs)
    assert len(ours) == len(expected) == 3
    for mine, theirs in zip(ours, expected, strict=True):
        assert np.abs(mine - theirs).max() <= tolerance_of(model.config) * max(1.0, np.abs(theirs).max())
    graph = graph_of(found.model)
    assert [value.name for value in graph.input] == [port.name for port in found.inputs]
    gone = {base.sites[path].weight for path in base.sites if path not in found.sites}
    assert not gone.intersection(tensor.name for tensor in graph.initializer)


@pytest.mark.slow
def test_every_mode_of_onnx_runtime_agrees_with_its_merged_reference(onnx_programs: OnnxPrograms) -> None:
    configuration = Configuration.of(RANKS, widths={1: 20, 5: 33}, left_out=LEFT_OUT)
    at = Workload(of_six(), configuration, past=5, quantisation="int4")
    wanted = [*(replace(at, mode=mode) for mode in onnx_programs.modes(at)), at.bare, replace(at, graph="open")]
    found = profile(wanted, reference=at.base, device=CPU, stop=FixedRounds(1), seed=0, programs=onnx_programs)
    assert [each.failure for each in found] == [""] * len(wanted)


@pytest.mark.slow
def test_torch_times_shallower_and_narrower_models_beside_their_base(tmp_path: Path) -> None:
    device = TorchCpu(threads=1)
    narrow = Configuration.of(RANKS, widths={1: 20, 5: 33})
    wanted = [shallow(of_six()), shallow(of_six(), RANKS), Workload(of_six(), narrow, past=5)]
    programs = programs_for(device.info(), cache=tmp_path)
    found = profile(wanted, reference=wanted[0].base, device=device, stop=FixedRounds(2), seed=0, programs=programs)
    assert [each.failure for each in found] == [""] * len(wanted)


def test_a_layer_left_out_takes_its_calls_bytes_and_flops_away() -> None:
    stub, fewer = Workload(of_six().stub(LAYERS - len(LEFT_OUT)), past=5), shallow(of_six())
    assert fewer.work() == stub.work()
    assert (fewer.base_bytes, fewer.cache_bytes) == (stub.base_bytes, stub.cache_bytes)


def test_adapters_and_widths_of_left_out_layers_are_none() -> None:
    full = Configuration.of({DOWN.format(2): 4, DOWN.format(4): 4}, widths={2: 20, 1: 20}, left_out=(3, 2))
    assert full == Configuration.of({DOWN.format(4): 4}, widths={1: 20}, left_out=[2, 3])
    assert full.describe() == "down 4 x1, MLP 20 x1, without layers 2, 3"


def test_the_json_of_a_shallower_workload_is_read_back_and_that_of_others_is_as_before() -> None:
    shape = of_six()
    for workload in (shallow(shape, RANKS), shallow(shape, graph="open")):
        assert Workload.from_json(json.loads(json.dumps(workload.to_json())), shape) == workload
    assert "left_out" not in Workload(shape).to_json()
    assert shallow(shape).hash != Workload(shape).hash


def test_parts_and_stubs_are_those_of_the_layers_that_stay() -> None:
    assert sorted(blocks_of(shallow(of_six(), {DOWN.format(4): 4})).values()) == [1, 2]
    stub = stub_of(shallow(of_six(), {DOWN.format(layer): 4 for layer in (1, 4, 5)}), 2)
    assert stub.configuration == Configuration.of({DOWN.format(0): 4, DOWN.format(1): 4})
    assert stub.shape.layers == 2
    with pytest.raises(InputError, match="stubs cannot leave layers out; measure the whole model"):
        stub_of(shallow(of_six("qwen3")), 2)


@pytest.mark.parametrize(
    ("left_out", "scope", "message"),
    [
        ((6,), "model", "the base model has no layer 6; its layers are 0 to 5"),
        (tuple(range(6)), "model", "all 6 layers are left out; leave out at most 5"),
        ((-1,), "model", "is of a layer, a whole number from 0, not of -1"),
        ((1, 1), "model", "a dimension is named twice"),
        (LEFT_OUT, "block", "left out of a whole model, not of a block"),
    ],
)
def test_layers_that_cannot_be_left_out_are_refused(left_out: tuple[int, ...], scope: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Workload(of_six(), Configuration.of(left_out=left_out), scope=scope)
