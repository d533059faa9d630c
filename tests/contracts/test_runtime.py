"""Runtimes that keep to the contract: libraries that load programs in the agent."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from genai_folder import genai_folder

from adaptare.devices import Runtime
from adaptare.devices.agent.genai_runtime import GenaiRuntime
from adaptare.devices.agent.llama_runtime import LlamaRuntime
from adaptare.devices.agent.openvino_runtime import OpenvinoRuntime
from adaptare.devices.agent.ort_runtime import CPU, OrtRuntime
from adaptare.devices.agent.torch_runtime import TorchRuntime
from adaptare.profiler.models.disk_cache import KeptFolders
from adaptare.profiler.programs.gguf_base import base_file
from adaptare.profiler.programs.openvino import base_graph
from adaptare.testing import RuntimeProgram, RuntimeSuite, onnx_programs
from adaptare.testing.program_builder import SHAPE

WORKER_MODULES = Path(__file__).parents[1] / "worker_modules"
MATRIX = {"dtype": "float32", "shape": [8, 8], "uniform": 1.0, "seed": 3}


@dataclass(frozen=True)
class Case:
    name: str
    make: Callable[[], Runtime]
    program: Callable[[Path], RuntimeProgram]
    options: dict[str, object]


def onnx_file(folder: Path) -> RuntimeProgram:
    return RuntimeProgram(str(folder), onnx_programs(folder).good.source, {}, {"inputs": {"x": MATRIX}})


def torch_module(folder: Path) -> RuntimeProgram:
    return RuntimeProgram(str(folder), "worker_programs:torch_linear", {"width": 8}, {})


def genai_program(folder: Path) -> RuntimeProgram:
    ids = {"dtype": "int32", "shape": [9], "integers": 72, "seed": 1}
    feed = {"ids": ids, "before": 8, "adapter": {}}
    return RuntimeProgram(str(genai_folder(SHAPE, folder)), "genai_config.json", {}, feed)


def gguf_program(folder: Path) -> RuntimeProgram:
    file = base_file(KeptFolders(folder, "gguf"), SHAPE, "Q8_0")
    ids = {"dtype": "int32", "shape": [9], "integers": 72, "seed": 1}
    return RuntimeProgram(str(file.parent), file.name, {}, {"ids": ids, "before": 8, "adapter": {}})


def openvino_program(folder: Path) -> RuntimeProgram:
    graph, _ = base_graph(KeptFolders(folder, "openvino"), SHAPE, "float32")
    ids = {"dtype": "int32", "shape": [9], "integers": 72, "seed": 1}
    return RuntimeProgram(str(graph.parent), graph.name, {}, {"ids": ids, "before": 8})


RUNTIMES = [
    Case("ort", OrtRuntime, onnx_file, {"provider": CPU, "spinning": True, "flush_denormals": False}),
    Case("torch", TorchRuntime, torch_module, {}),
    Case("genai", GenaiRuntime, genai_program, {}),
]
MARKED = [
    pytest.param(Case("llama", LlamaRuntime, gguf_program, {}), marks=pytest.mark.llama),
    pytest.param(Case("openvino", OpenvinoRuntime, openvino_program, {}), marks=pytest.mark.openvino),
]


@pytest.fixture(scope="module", params=[*RUNTIMES, *MARKED], ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(scope="module")
def runtime(case: Case) -> Iterator[Runtime]:
    made = case.make()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(os.fspath(WORKER_MODULES))
        yield made


@pytest.fixture(scope="module")
def program(case: Case, tmp_path_factory: pytest.TempPathFactory) -> RuntimeProgram:
    return case.program(tmp_path_factory.mktemp("program"))


class TestRuntime(RuntimeSuite):
    """Every runtime of the list."""

    @pytest.fixture(scope="class")
    @classmethod
    def options(cls, case: Case) -> dict[str, object]:
        return case.options


def test_adapters_of_onnxruntime_genai_leave_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forks of the agent end without cleanup."""
    made, temporary = genai_program(tmp_path), tmp_path / "temporary"
    sites = [(f"{site.path}.lora_{half}", site) for site in SHAPE.sites for half in "AB"]
    shapes = {name: [site.in_features, 4] if name[-1] == "A" else [4, site.out_features] for name, site in sites}
    adapter = {name: {**MATRIX, "shape": shape} for name, shape in shapes.items()}
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    runtime = GenaiRuntime()
    runtime.setup(1, {})
    model = runtime.load(made.folder, made.source, made.arguments)
    call, restore = model.bind({**made.feed, "adapter": adapter})
    assert list(temporary.iterdir()) == []
    first = call().tolist()
    restore()
    assert call().tolist() == first
    assert first != model.bind(made.feed)[0]().tolist()
