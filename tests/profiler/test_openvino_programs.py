"""Graphs of OpenVINO: they compute what torch does, with adapters in each mode."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from adaptare.core import InputError, ProgramError
from adaptare.devices import DeviceInfo
from adaptare.devices.agent.openvino_runtime import OpenvinoRuntime, last_logits
from adaptare.devices.openvino_device import openvino_cpu
from adaptare.profiler import Configuration, FixedRounds, ModelShape, Workload, profile, programs_for
from adaptare.profiler.models.disk_cache import KeptFolders
from adaptare.profiler.models.random_model import random_model
from adaptare.profiler.programs.openvino import OpenvinoPrograms, base_graph
from adaptare.profiler.programs.openvino_graph import openvino_graph
from adaptare.profiler.workloads import Halves
from adaptare.testing.program_builder import ADAPTER, SHAPE

pytestmark = pytest.mark.openvino
TOKENS = [3, 14, 15, 9, 26, 5]


def of_family(family: str, **changes: object) -> ModelShape:
    return ModelShape.from_mapping({**json.loads(SHAPE.config), "model_type": family, **changes})


def adapter(shape: ModelShape) -> dict[str, tuple["np.typing.NDArray[np.float32]", "np.typing.NDArray[np.float32]"]]:
    """Another rank and scale on each site."""
    made = {}
    for number, site in enumerate(shape.sites):
        halves = Halves.random(site.path, 1 + number % 5, site.in_features, site.out_features)
        made[site.path] = halves.A, np.float32(0.5 + number) * halves.B
    return made


def torch_logits(shape: ModelShape, *, adapted: bool) -> "np.typing.NDArray[np.float32]":
    model = random_model(json.loads(shape.config))
    for path, (A, B) in adapter(shape).items() if adapted else ():
        model.get_submodule(path).weight += torch.from_numpy(B @ A)
    logits: np.typing.NDArray[np.float32] = model(torch.tensor([TOKENS])).logits[0, -2:].numpy()
    return logits


@pytest.mark.slow_after(2)
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "mistral", "gemma"])
@pytest.mark.parametrize("kind", ["float32", "float16"])
def test_a_base_with_an_adapter_of_mixed_ranks_and_scales_computes_what_torch_does(
    family: str, kind: str, tmp_path: Path
) -> None:
    shape = of_family(family)
    file, _ = base_graph(KeptFolders(tmp_path, "openvino"), shape, kind)
    base, adapted = (last_logits(str(file), TOKENS, halves) for halves in ({}, adapter(shape)))
    largest = np.max(np.abs(torch_logits(shape, adapted=True)))
    close = {"float32": 1e-5, "float16": 1e-2}[kind] * largest
    assert np.max(np.abs(base - torch_logits(shape, adapted=False))) < close
    assert np.max(np.abs(adapted - torch_logits(shape, adapted=True))) < close
    assert np.max(np.abs(adapted - base)) > 0.1 * largest


@pytest.mark.slow_after(1)
@pytest.mark.parametrize(("kind", "close"), [("int8", 0.02), ("int4", 0.3)])
@pytest.mark.parametrize("width", [64, 48], ids=["whole blocks", "parts of blocks"])
def test_rounded_bases_are_close_to_exact_ones(kind: str, close: float, width: int, tmp_path: Path) -> None:
    shape = of_family("llama", hidden_size=width, intermediate_size=96)
    exact = torch_logits(shape, adapted=False)
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
        (Workload(SHAPE, ADAPTER, batch=2), "is timed with a whole model, one sequence at a time"),
        (Workload(SHAPE, replace(ADAPTER, kind="dora")), "is timed with complete models, and LoRA"),
        (Workload(SHAPE, dtype="bfloat16"), "are made in float32 or float16, not bfloat16"),
        (Workload(SHAPE, quantisation="int4-weight-only"), "int4 with dynamic_quantization_group_size=0, not"),
    ],
    ids=["padded", "merged", "block", "batch", "dora", "dtype", "weights only"],
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


def test_an_open_graph_takes_rank_0(tmp_path: Path) -> None:
    device = openvino_cpu()
    programs = programs_for(device.info(), cache=tmp_path)
    workloads = [Workload(SHAPE, adapter, graph="open", past=5) for adapter in (Configuration(), ADAPTER)]
    found = profile(
        workloads, reference=Workload(SHAPE, past=5), device=device, stop=FixedRounds(3), seed=0, programs=programs
    )
    assert [each.failure for each in found] == ["", ""]
