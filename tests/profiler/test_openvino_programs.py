"""Graphs of OpenVINO: they compute what torch does, with adapters in each mode."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mixed_ranks import TOKENS, mixed_halves, of_family, torch_logits

from adaptare.core import InputError, ProgramError
from adaptare.devices import DeviceInfo
from adaptare.devices.agent.openvino_runtime import OpenvinoRuntime, last_logits
from adaptare.devices.openvino_device import openvino_cpu
from adaptare.profiler import Configuration, FixedRounds, Workload, profile, programs_for
from adaptare.profiler.models.disk_cache import KeptFolders
from adaptare.profiler.models.random_model import random_model
from adaptare.profiler.programs.openvino import OpenvinoPrograms, base_graph
from adaptare.profiler.programs.openvino_graph import openvino_graph
from adaptare.testing.program_builder import ADAPTER, SHAPE

pytestmark = pytest.mark.openvino


@pytest.mark.slow_after(1)
@pytest.mark.parametrize(
    ("family", "kind"),
    [("qwen3", "float32"), ("llama", "float16"), ("qwen2", "float32"), ("mistral", "float32"), ("gemma", "float32")],
)
def test_a_base_with_an_adapter_of_mixed_ranks_and_scales_computes_what_torch_does(
    family: str, kind: str, tmp_path: Path
) -> None:
    shape = of_family(family)
    file, _ = base_graph(KeptFolders(tmp_path, "openvino"), shape, kind)
    halves = mixed_halves(shape)
    pairs = {path: (own.A, np.float32(own.scale) * own.B) for path, own in halves.items()}
    base, adapted = (last_logits(str(file), TOKENS, each) for each in ({}, pairs))
    right = torch_logits(shape, halves)
    largest = np.max(np.abs(right))
    close = {"float32": 1e-5, "float16": 1e-2}[kind] * largest
    assert np.max(np.abs(base - torch_logits(shape, {}))) < close
    assert np.max(np.abs(adapted - right)) < close
    assert np.max(np.abs(adapted - base)) > 0.1 * largest


@pytest.mark.slow_after(1)
@pytest.mark.parametrize(("kind", "close"), [("int8", 0.02), ("int4", 0.3)])
@pytest.mark.parametrize("width", [64, 48], ids=["whole blocks", "parts of blocks"])
def test_rounded_bases_are_close_to_exact_ones(kind: str, close: float, width: int, tmp_path: Path) -> None:
    shape = of_family("llama", hidden_size=width, intermediate_size=96)
    exact = torch_logits(shape, {})
    graph, weights = base_graph(KeptFolders(tmp_path, "openvino"), shape, kind)
    difference = np.max(np.abs(last_logits(str(graph), TOKENS, {}) - exact))
    assert 0 < difference < close * np.max(np.abs(exact))
    whole = base_graph(KeptFolders(tmp_path, "openvino"), shape, "float32")[1].stat().st_size
    assert weights.stat().st_size < whole / (3 if kind == "int8" or width == 48 else 5)


class Zeta(torch.nn.Module):
    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return torch.special.zeta(hidden, hidden)


def test_an_operator_that_is_not_converted_is_named() -> None:
    model = random_model(json.loads(SHAPE.config))
    model.lm_head = Zeta()
    with pytest.raises(ProgramError, match=r"openvino does not convert llama: .*aten::special_zeta"):
        openvino_graph(model)


@pytest.fixture
def programs(tmp_path: Path) -> OpenvinoPrograms:
    return OpenvinoPrograms(DeviceInfo("openvino-cpu", "board", "openvino 2026.4", 1), cache=tmp_path)


@pytest.mark.parametrize(
    ("workload", "message"),
    [
        (
            Workload(SHAPE, ADAPTER, mode="padded"),
            "adapters of this base swappable or static or merged, not padded",
        ),
        (
            Workload(SHAPE, ADAPTER, mode="merged", quantisation="int4"),
            "applies adapters of this base swappable or static, not merged",
        ),
        (Workload(SHAPE, ADAPTER, scope="block"), "is timed with a whole model, one sequence at a time"),
        (Workload(SHAPE, replace(ADAPTER, kind="dora")), "is timed with complete models, and LoRA"),
        (Workload(SHAPE, dtype="bfloat16"), "are made in float32 or float16, not bfloat16"),
        (Workload(SHAPE, quantisation="int4-weight-only"), "int4 with dynamic_quantization_group_size=0, not"),
    ],
    ids=["padded", "merged", "block", "dora", "dtype", "weights only"],
)
def test_what_does_not_run_is_refused_before_a_file_is_written(
    programs: OpenvinoPrograms, tmp_path: Path, workload: Workload, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        programs.program(workload)
    assert not list(tmp_path.iterdir())


def test_swappable_adapters_of_the_same_sites_share_a_program(programs: OpenvinoPrograms) -> None:
    paths = [path for path, _ in ADAPTER.ranks]
    one, other = (programs.program(Workload(SHAPE, Configuration.of(dict.fromkeys(paths, rank)))) for rank in (1, 3))
    assert (one.source, one.arguments, one.files) == (other.source, other.arguments, other.files)


def test_the_library_fuses_adapters_in_states(programs: OpenvinoPrograms) -> None:
    runtime = OpenvinoRuntime()
    runtime.setup(1, {})
    model = {}
    for mode in ("swappable", "static"):
        program = programs.program(Workload(SHAPE, ADAPTER, mode=mode))
        folder = str(program.files[0].path.parent)
        feed = json.loads(program.feeds[0].arguments)

        def timed(call: Callable[[], object], restore: Callable[[], None]) -> list[float]:
            for _ in range(2):
                restore()
                call()
            return [0.0, 0.0]

        _, model[mode] = runtime.attribute(folder, program.source, json.loads(program.arguments), feed, timed)
    assert [operators["LoraSubgraph"][0] for operators in model["swappable"]] == [2, 2]
    assert "LoraSubgraph" not in model["static"][0]


@pytest.mark.slow
def test_an_open_graph_takes_rank_0(tmp_path: Path) -> None:
    device = openvino_cpu()
    programs = programs_for(device.info(), cache=tmp_path)
    workloads = [Workload(SHAPE, adapter, graph="open", past=5) for adapter in (Configuration(), ADAPTER)]
    found = profile(
        workloads, reference=Workload(SHAPE, past=5), device=device, stop=FixedRounds(3), seed=0, programs=programs
    )
    assert [each.failure for each in found] == ["", ""]
