"""Which operators take the time, told by the profilers of torch and ONNX Runtime themselves."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest

from adaptare.core import ProgramError
from adaptare.core.content_hash import canonical_json
from adaptare.devices import (
    AttributingWorker,
    Feed,
    Program,
    TorchCpu,
    Work,
    Worker,
    ort_cpu,
    program_file,
)
from adaptare.devices.agent import ort_runtime
from adaptare.devices.agent.ort_runtime import OrtRuntime
from adaptare.devices.agent.place import Host
from adaptare.devices.agent.server import WARM_CALLS, Agent

MakeProgram = Callable[..., Program]
MakeAgent = Callable[..., Agent]

HEADER = '<ir_version: 8, opset_import: ["": 17]>'
CHAIN = "g (float[8,8] x) => (float[8,8] y) { s = Add(x, x) t = MatMul(s, x) u = MatMul(t, x) y = MatMul(u, x) }"
BRANCH = (
    "g (float[8,8] x, bool c) => (float[8,8] y) { y = If (c) "
    "<then_branch = a () => (float[8,8] p) { q = MatMul(x, x) p = MatMul(q, x) }, "
    "else_branch = b () => (float[8,8] r) { r = Add(x, x) }> }"
)
INPUTS = {
    "x": {"dtype": "float32", "shape": [8, 8], "uniform": 1.0, "seed": 1},
    "c": {"dtype": "bool", "shape": [], "constant": True},
}
FEED = {"inputs": {"x": INPUTS["x"]}}


def onnx_program(folder: Path, graph: str, *inputs: str) -> Program:
    file = folder / "model.onnx"
    onnx.save(onnx.parser.parse_model(f"{HEADER} {graph}"), file)
    arguments = canonical_json({"inputs": {name: INPUTS[name] for name in inputs}})
    return Program("p", file.name, "{}", (Feed("only", arguments, Work(1, 1, 1)),), (program_file(file),))


@pytest.fixture(scope="module")
def ort_worker() -> Iterator[Worker]:
    with ort_cpu(threads=1, timeout_s=60).open() as worker:
        yield worker


@pytest.fixture
def ort_here(monkeypatch: pytest.MonkeyPatch) -> OrtRuntime:
    """ONNX Runtime in this process."""
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "1")
    runtime = OrtRuntime()
    runtime.setup(1, {"provider": ort_runtime.CPU, "spinning": True, "flush_denormals": False})
    return runtime


def attributed(worker: Worker, program: Program, *, calls: int = 4) -> list[dict[str, int]]:
    """How often each kind of operator ran, call by call; checks that they took no longer than the call."""
    assert isinstance(worker, AttributingWorker)
    found = worker.attribute(program, "only", calls)
    for call in found:
        assert all(each.seconds >= 0 for each in call.operators)
        assert sum(each.seconds for each in call.operators) <= call.seconds
    return [{each.name: each.calls for each in call.operators} for call in found]


def node(op: str, start: int, duration: int) -> dict[str, Any]:
    return {"cat": "Node", "name": f"{op}_1_kernel_time", "ts": start, "dur": duration, "args": {"op_name": op}}


RUN = {"cat": "Session", "name": "model_run", "ts": 0, "dur": 99, "args": {}}


def test_onnx_runtime_reports_exactly_the_nodes_of_the_graph(ort_worker: Worker, tmp_path: Path) -> None:
    assert attributed(ort_worker, onnx_program(tmp_path, CHAIN, "x")) == [{"Add": 1, "MatMul": 3}] * 4


def test_onnx_runtime_reports_the_branch_that_ran_and_the_node_around_it(ort_worker: Worker, tmp_path: Path) -> None:
    assert attributed(ort_worker, onnx_program(tmp_path, BRANCH, "x", "c")) == [{"If": 1, "MatMul": 2}] * 4


@pytest.mark.usefixtures("worker_modules")
def test_torch_reports_exactly_the_operators_that_were_called_and_none_of_restoring(make_program: MakeProgram) -> None:
    with TorchCpu(threads=1, timeout_s=60).open() as worker:
        for call in attributed(worker, make_program("torch_chain", products=3)):
            assert [call[name] for name in ("aten::matmul", "aten::mm", "aten::add")] == [3, 3, 1]
            assert "aten::mul" not in call


def test_a_program_at_fault_leaves_the_worker_alive(ort_worker: Worker, tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match=r"no spec for inputs \['x'\]"):
        attributed(ort_worker, onnx_program(tmp_path, CHAIN))
    assert attributed(ort_worker, onnx_program(tmp_path, CHAIN, "x"), calls=1) == [{"Add": 1, "MatMul": 3}]


def test_a_feed_that_the_program_lacks_is_refused(ort_worker: Worker, tmp_path: Path) -> None:
    assert isinstance(ort_worker, AttributingWorker)
    with pytest.raises(ProgramError, match=r"the program has no feed 'other'; it has \['only'\]"):
        ort_worker.attribute(onnx_program(tmp_path, CHAIN, "x"), "other", 1)


def test_warm_up_calls_are_left_out(make_agent: MakeAgent) -> None:
    called: list[int] = []

    def attribute(folder: str, source: str, arguments: Any, feed: Any, timed: Callable[..., Any]) -> Any:
        seconds = timed(lambda: called.append(len(called)), lambda: None)
        return seconds, [{"Add": [number, 0.0]} for number in called]

    reply = make_agent(attribute=attribute).attribute(
        {"source": "", "files": {}, "arguments": {}, "feed": {}, "calls": 2}
    )
    assert reply["count"] == len(reply["seconds"]) == 2
    assert reply["operators"] == [{"Add": [WARM_CALLS, 0.0]}, {"Add": [WARM_CALLS + 1, 0.0]}]


def test_a_node_has_only_the_time_that_nodes_inside_it_leave() -> None:
    inside = [node("MatMul", 3, 4), node("MatMul", 7, 2)]
    (run,) = ort_runtime._operators([node("Add", 0, 1), *inside, node("If", 2, 10), node("Add", 12, 5), RUN])
    assert {name: (calls, round(1e6 * seconds)) for name, (calls, seconds) in run.items()} == {
        "Add": (2, 6),
        "MatMul": (2, 6),
        "If": (1, 4),
    }


def test_runs_are_told_apart() -> None:
    first, second = ort_runtime._operators([node("Add", 0, 1), RUN, node("MatMul", 0, 2), node("MatMul", 2, 2), RUN])
    assert (list(first), second["MatMul"]) == (["Add"], [2, pytest.approx(4e-6)])


def test_a_call_that_the_profiler_did_not_record_is_noticed(ort_here: OrtRuntime, tmp_path: Path) -> None:
    program = onnx_program(tmp_path, CHAIN, "x")
    with pytest.raises(RuntimeError, match="recorded 2 of 3 calls; ask for fewer calls"):
        ort_here.attribute(
            str(tmp_path),
            program.source,
            {},
            FEED,
            lambda call, restore: [0.0, *Host().timed(call, restore, 2)],
        )


def test_the_trace_is_not_left_behind(ort_here: OrtRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = onnx_program(tmp_path, CHAIN, "x")
    (tmp_path / "traces").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "traces"))
    ort_here.attribute(str(tmp_path), program.source, {}, FEED, lambda *bound: Host().timed(*bound, 2))
    assert list((tmp_path / "traces").iterdir()) == []
