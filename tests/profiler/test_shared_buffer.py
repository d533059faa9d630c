"""ONNX Runtime with new keys and values written into the buffer of the cache."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from transformers import PreTrainedModel

from adaptare.devices import connect, ort_cpu
from adaptare.devices.agent.feeds import filled
from adaptare.profiler import Configuration, ModelShape, Workload
from adaptare.profiler.programs.builders import TorchPrograms
from adaptare.profiler.programs.equality import largest_difference
from adaptare.profiler.programs.onnx.programs import OnnxPrograms
from adaptare.profiler.programs.torch.programs import build

Logits = Callable[[PreTrainedModel, Mapping[str, NDArray[Any]]], NDArray[np.float32]]
SITES = {"model.layers.0.self_attn.q_proj": 2, "model.layers.1.mlp.down_proj": 4}
SHARING = ort_cpu(threads=1, past_present_share_buffer=True)


@pytest.fixture
def mixed(llama: ModelShape) -> Workload:
    return Workload(llama, Configuration.of(SITES), past=5, tokens=7, batch=2)


def test_it_is_part_of_the_device() -> None:
    info = SHARING.info()
    assert info.device == "ort-cpu:threads=1,past_present_share_buffer=yes"
    assert connect(info.device).info() == info
    assert set(info.options) - set(ort_cpu(threads=1).info().options) == {"past_present_share_buffer=yes"}


@pytest.mark.parametrize(("phase", "past", "room"), [("decode", 5, 1), ("prefill", 0, 7)])
def test_it_has_room_for_the_tokens_of_a_call_and_computes_what_torch_does(
    onnx_cache: Path, torch_logits: Logits, mixed: Workload, phase: Any, past: int, room: int
) -> None:
    workload = replace(mixed, phase=phase)
    programs = OnnxPrograms(SHARING.info(), cache=onnx_cache)
    program = programs.program(workload)
    arguments = json.loads(program.feeds[0].arguments)
    inputs = {name: filled(name, spec) for name, spec in arguments["inputs"].items()}
    caches = set(arguments["shared"].values())
    assert caches == {name for name in inputs if name.startswith("past_key_values.")}
    assert {inputs[name].shape for name in caches} == {(2, 2, past + room, 16)}
    inputs |= {name: inputs[name][:, :, :past] for name in caches}
    merged = build(**json.loads(TorchPrograms().program(workload.merged).arguments))
    expected = torch_logits(merged._model, inputs).ravel().tolist()
    with SHARING.open() as worker:
        for each in (program, programs.merged_reference(workload)):
            loaded = worker.load(each)
            name = each.feeds[0].name
            assert largest_difference(loaded.outputs[name], expected) <= 1e-4
            assert len(worker.run(loaded.program_id, name, 3)) == 3
