import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest

from adaptare.core.content_hash import canonical_json
from adaptare.devices import AgentDevice, Feed, Program, Work, program_file
from adaptare.devices.agent import memory
from adaptare.devices.agent.files import Files
from adaptare.devices.agent.runtime import RuntimeFacts
from adaptare.devices.agent.server import Agent
from adaptare.devices.agent_worker import AgentWorker

MATRIX = {"dtype": "float32", "shape": [8, 8], "uniform": 1.0, "seed": 3}
WORKER_MODULES = Path(__file__).parents[1] / "worker_modules"
OpenWorker = Callable[..., AgentWorker]
MakeProgram = Callable[..., Program]
MakeAgent = Callable[..., Agent]


@pytest.fixture
def make_program() -> MakeProgram:
    """A program out of `worker_programs`, with one feed named `only`."""

    def make(factory: str, **arguments: int | float | str | list[float]) -> Program:
        feed = Feed("only", "{}", Work(1, 1, 1))
        return Program(factory, f"worker_programs:{factory}", canonical_json(arguments), (feed,))

    return make


@pytest.fixture(scope="module")
def shared_worker_modules() -> Iterator[None]:
    """Lets workers that several tests share import the modules in `tests/worker_modules`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.fspath(WORKER_MODULES), prepend=os.pathsep)
        yield


@pytest.fixture
def plain_device(worker_modules: Path) -> Callable[..., AgentDevice]:
    """A device without any library, on one thread unless told otherwise."""

    def make(**options: Any) -> AgentDevice:
        usual = {"name": "plain", "runtime": "plain_runtime:PlainRuntime", "threads": 1, "timeout_s": 60.0}
        return AgentDevice(**{**usual, **options})

    return make


@pytest.fixture
def open_worker(plain_device: Callable[..., AgentDevice]) -> Iterator[OpenWorker]:
    """Workers of a plain device; all are closed after the test."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(plain_device(**options).open())


@pytest.fixture
def square(tmp_path: Path) -> Program:
    """Squares a matrix; its one file lies in a folder of the host."""
    return onnx_program(tmp_path / "host", "square", "(float[n,n] x) => (float[n,n] y) { y = MatMul(x, x) }", x=MATRIX)


@pytest.fixture
def endless(tmp_path: Path) -> Program:
    """Counts for days in its first call, without a line of Python."""
    body = "b (int64 i, bool c, int64 s) => (bool d, int64 t) { d = Identity(c) t = Add(s, i) }"
    loop = f"go = Constant <value = bool {{1}}> () y = Loop <body = {body}> (n, go, n)"
    count = {"dtype": "int64", "shape": [], "constant": 10**12}
    return onnx_program(tmp_path / "host", "endless", f"(int64 n) => (int64 y) {{ {loop} }}", n=count)


def onnx_program(folder: Path, name: str, graph: str, **inputs: object) -> Program:
    folder.mkdir(exist_ok=True)
    file = folder / f"{name}.onnx"
    onnx.save(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> g {graph}'), file)
    feed = Feed("only", canonical_json({"inputs": inputs}), Work(1, 1, 1))
    return Program(name, file.name, "{}", (feed,), (program_file(file),))


@pytest.fixture
def memory_limits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Limits that were set, each instead of limiting this process."""
    limits: list[int] = []
    monkeypatch.setattr(memory, "limit_memory", limits.append)
    return limits


@pytest.fixture
def make_agent(tmp_path: Path, memory_limits: list[int]) -> MakeAgent:
    """An agent in this process, with a runtime of functions."""

    def make(**functions: Any) -> Agent:
        usual = {"setup": lambda threads, options: RuntimeFacts("plain 1"), "load": print}
        return Agent(SimpleNamespace(**{**usual, **functions}), Files(os.fspath(tmp_path / "agent")))

    return make
