"""What runs right before the clock starts."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from adaptare.devices import agent, ort_runtime
from adaptare.devices.empty_call import GRAPH, empty_call

SETUP = {"provider": "CPUExecutionProvider", "threads": 2, "spinning": True, "flush_denormals": False}


def test_the_graph_copies_a_number() -> None:
    graph = onnx.load_from_string(GRAPH)
    onnx.checker.check_model(graph, full_check=True)
    assert [node.op_type for node in graph.graph.node] == ["Identity"]
    (copied,) = onnxruntime.InferenceSession(GRAPH).run(None, {"x": np.array([7], np.float32)})
    assert copied.tolist() == [7]


def test_it_runs_without_threads_of_its_own() -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 4
    call = empty_call(options)
    call()
    assert options.intra_op_num_threads == 1


def test_it_runs_before_every_call_that_is_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    monkeypatch.setattr(ort_runtime, "_empty_call", lambda: lambda: events.append("empty"))
    file = tmp_path / "copy.onnx"
    file.write_bytes(GRAPH)
    ort_runtime.setup(SETUP)
    feed = {"inputs": {"x": {"dtype": "float32", "shape": [1], "constant": 3}}}
    call, restore = ort_runtime.load(str(file), {}).bind(feed)

    def noted() -> None:
        events.append("call")
        assert call().tolist() == [3]

    assert len(agent.timed_calls(noted, restore, 2)) == 2
    assert events == ["empty", "call"] * 2
