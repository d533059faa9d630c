"""ONNX Runtime: outputs against numpy, who runs the nodes, and options of its sessions."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from adaptare.core import InputError, ProgramError
from adaptare.core.content_hash import canonical_json
from adaptare.devices import Feed, Program, Work, connect, ort_cpu, program_file
from adaptare.devices.agent.feeds import filled
from adaptare.devices.agent.ort_runtime import OrtModel, OrtRuntime
from adaptare.devices.agent.server import mapped_bytes
from adaptare.devices.agent_worker import AgentWorker

Spec = dict[str, Any]
Setup = Callable[..., OrtRuntime]

CPU, AZURE = "CPUExecutionProvider", "AzureExecutionProvider"
AVAILABLE = len(os.sched_getaffinity(0))
HEADER = '<ir_version: 8, opset_import: ["": 17]>'
# An adapter whose rank is left open, as the exporter writes it.
CHAIN = "g (float[n,4] x, float[4,r] A, float[r,3] B) => (float[n,3] y) { t = MatMul(x, A) y = MatMul(t, B) }"
PRODUCT = "g (float[1] x, float[1] s) => (float[1] y) { y = Mul(x, s) }"


def saved(folder: Path, graph: str) -> Path:
    file = folder / "model.onnx"
    onnx.save(onnx.parser.parse_model(f"{HEADER} {graph}"), file)
    return file


def drawn(*shape: int, seed: int = 0, limit: float = 1.0) -> Spec:
    return {"dtype": "float32", "shape": list(shape), "uniform": limit, "seed": seed}


def constant(value: float, *shape: int, dtype: str = "float32") -> Spec:
    return {"dtype": dtype, "shape": list(shape), "constant": value}


def chain(rank: int) -> dict[str, Spec]:
    return {"x": drawn(2, 4, seed=1), "A": drawn(4, rank, seed=2), "B": drawn(rank, 3, seed=3)}


def program(file: Path, *, arguments: str = "{}", **feeds: dict[str, Spec]) -> Program:
    made = [Feed(name, canonical_json({"inputs": inputs}), Work(1, 1, 1)) for name, inputs in feeds.items()]
    return Program("p", file.name, arguments, tuple(made), (program_file(file),))


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch) -> Setup:
    """The runtime in this process, on one thread unless told otherwise."""
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "1")

    def settle(threads: int = 1, **options: object) -> OrtRuntime:
        runtime = OrtRuntime()
        runtime.setup(threads, {"provider": CPU, "spinning": True, "flush_denormals": False, **options})
        return runtime

    return settle


def loaded(runtime: OrtRuntime, file: Path, copy: int = 0, **arguments: Any) -> OrtModel:
    return runtime.load(str(file.parent), file.name, arguments, copy)


def output(model: OrtModel, inputs: dict[str, Spec]) -> list[float]:
    call, restore = model.bind({"inputs": inputs})
    restore()
    call()
    return call().tolist()


@pytest.fixture(scope="module")
def worker() -> Iterator[AgentWorker]:
    """A worker on one thread that programs outlive."""
    with ort_cpu(threads=1, timeout_s=60).open() as opened:
        yield opened


@pytest.fixture
def adapter(setup: Setup, tmp_path: Path) -> OrtModel:
    return loaded(setup(), saved(tmp_path, CHAIN))


@pytest.mark.parametrize("rank", [0, 5])
def test_bound_outputs_are_those_of_numpy(adapter: OrtModel, rank: int) -> None:
    inputs = chain(rank)
    x, a, b = (filled(name, inputs[name]) for name in "xAB")
    expected = x @ a @ b
    assert output(adapter, inputs) == pytest.approx(expected.ravel().tolist(), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "entries"),
    [
        ({}, {}),
        ({"spinning": False}, {"session.intra_op.allow_spinning": "0"}),
        ({"flush_denormals": True}, {"session.set_denormal_as_zero": "1"}),
    ],
)
def test_a_session_is_plain_but_for_the_options_of_the_device(
    setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, bool], entries: dict[str, str]
) -> None:
    """Beside the record of who runs a node, which changes no kernel, and the level of messages."""
    told: dict[str, str] = {}
    runtime = setup(threads=2, **options)

    class Options(onnxruntime.SessionOptions):
        def add_session_config_entry(self, name: str, value: str) -> None:
            told[name] = value
            super().add_session_config_entry(name, value)

    monkeypatch.setattr(onnxruntime, "SessionOptions", Options)
    chosen = loaded(runtime, saved(tmp_path, CHAIN)).session.get_session_options()
    plain = onnxruntime.SessionOptions()
    assert told == {"session.record_ep_graph_assignment_info": "1", **entries}
    assert chosen.intra_op_num_threads == 2
    for name in ("graph_optimization_level", "execution_mode", "enable_cpu_mem_arena", "enable_mem_pattern"):
        assert getattr(chosen, name) == getattr(plain, name)


def test_an_adapter_padded_to_a_larger_rank_gives_the_same(adapter: OrtModel) -> None:
    inputs = chain(2)
    padded = {"x": inputs["x"], "A": {**inputs["A"], "padded_to": [4, 8]}, "B": {**inputs["B"], "padded_to": [8, 3]}}
    assert output(adapter, padded) == pytest.approx(output(adapter, inputs), rel=1e-5, abs=1e-6)


def test_feeds_of_one_program_keep_their_own_shapes(worker: AgentWorker, tmp_path: Path) -> None:
    feeds = {f"rank{rank}": chain(rank) for rank in (0, 1, 3)}
    loaded = worker.load(program(saved(tmp_path, CHAIN), **feeds))
    assert [len(worker.run(loaded.program_id, name, 2)) for name in feeds] == [2, 2, 2]
    assert loaded.outputs["rank0"] == (0.0,) * 6
    assert len(set(loaded.outputs.values())) == 3
    assert loaded.providers == {CPU: 2}


def test_every_call_computes_anew_from_the_inputs_that_were_bound(setup: Setup, tmp_path: Path) -> None:
    inputs = {"x": constant(4, 1), "s": constant(2, 1)}
    call, restore = loaded(setup(), saved(tmp_path, PRODUCT)).bind({"inputs": inputs})
    bound = call()
    assert bound.tolist() == [8.0]
    for value in (5.0, 6.0):
        restore()
        bound._kept[0].update_inplace(np.array([value], dtype=np.float32))
        assert call() is bound
        assert bound.tolist() == [2 * value]


def test_copies_share_no_weights_and_leave_nothing_behind(
    setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = "g (float[2] x) => (float[2] y) <float[2] w = {3.0, 4.0}> { y = Mul(x, w) }"
    for folder in ("program", "copies"):
        (tmp_path / folder).mkdir()
    runtime, file = setup(), saved(tmp_path / "program", graph)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "copies"))
    models = [loaded(runtime, file, copy) for copy in (1, 2)]
    assert [output(model, {"x": constant(2, 2)}) for model in models] == [[6.0, 8.0]] * 2
    assert list((tmp_path / "copies").iterdir()) == []


def test_weights_beside_a_graph_are_those_that_may_be_mapped(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(bytes(7))
    (tmp_path / "model.onnx.data").write_bytes(bytes(50))
    (tmp_path / "more.data").write_bytes(bytes(3))
    assert mapped_bytes(str(tmp_path), "model.onnx") == 53


def test_a_graph_and_the_weights_beside_it_are_loaded_by_their_names(worker: AgentWorker, tmp_path: Path) -> None:
    model = onnx.parser.parse_model(f"{HEADER} g (float[512] x) => (float[512] y) {{ y = Add(x, w) }}")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.full(512, 5, dtype=np.float32), "w"))
    file = tmp_path / "model.onnx"
    onnx.save(model, file, save_as_external_data=True, location="weights.data", size_threshold=0)
    made = program(file, only={"x": constant(2, 512)})
    both = Program("p", made.source, "{}", made.feeds, (*made.files, program_file(tmp_path / "weights.data")))
    assert worker.load(both).outputs == {"only": (7.0,) * 512}


def test_an_unprepared_graph_runs_as_it_stands(setup: Setup, tmp_path: Path) -> None:
    folded = "g (float[1] x) => (float[1] y) <float[1] a = {2.0}> { b = Add(a, a) y = Mul(x, b) }"
    runtime, file = setup(), saved(tmp_path, folded)
    nodes = [sum(loaded(runtime, file, prepared=prepared).nodes().values()) for prepared in (True, False)]
    assert nodes == [1, 2]


def test_every_output_is_bound_and_the_first_is_told(setup: Setup, tmp_path: Path) -> None:
    file = saved(tmp_path, "g (float[n] x) => (float[n] y, float[n] z) { y = Neg(x) z = Abs(x) }")
    assert output(loaded(setup(), file), {"x": constant(3, 2)}) == [-3.0, -3.0]


def test_an_input_without_a_spec_is_named(adapter: OrtModel) -> None:
    with pytest.raises(ValueError, match=r"no spec for inputs \['A', 'B'\]; it has \['x'\]"):
        output(adapter, {"x": drawn(2, 4)})


def test_a_spec_without_an_input_is_named(adapter: OrtModel) -> None:
    with pytest.raises(ValueError, match=r"the graph has no inputs \['alpha'\]; it has \['x', 'A', 'B'\]"):
        output(adapter, {**chain(1), "alpha": constant(1, 1)})


@pytest.mark.parametrize("where", ["load", "bind"])
def test_active_adapters_are_refused(setup: Setup, tmp_path: Path, where: str) -> None:
    arguments = {"inputs": chain(1), "active_adapters": ["a.onnx_adapter"]}
    file = saved(tmp_path, CHAIN)
    with pytest.raises(ValueError, match="a bound run ignores active_adapters silently; give their tensors"):
        loaded(setup(), file, **(arguments if where == "load" else {})).bind(arguments)


def test_a_worker_answers_a_bad_feed_with_its_words_and_lives(worker: AgentWorker, tmp_path: Path) -> None:
    file = saved(tmp_path, PRODUCT)
    with pytest.raises(ProgramError, match=r"^ValueError: the feed has no spec for inputs \['x', 's'\]"):
        worker.load(program(file, only={}))
    with pytest.raises(ProgramError, match=r"^NoSuchFile: .*absent.onnx"):
        worker.load(replace(program(file, only={}), source="absent.onnx"))
    good = program(file, only={"x": constant(4, 1), "s": constant(2, 1)})
    assert worker.load(good).outputs == {"only": (8.0,)}


def test_a_provider_that_runs_nothing_is_refused(setup: Setup, tmp_path: Path) -> None:
    words = f"provider '{AZURE}' was requested but runs none of the 2 nodes of 'model.onnx'"
    with pytest.raises(RuntimeError, match=words):
        loaded(setup(provider=AZURE), saved(tmp_path, CHAIN))


def test_a_provider_that_runs_a_part_is_accepted(setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Part:
        def __init__(self, ep_name: str, nodes: int) -> None:
            self.ep_name, self.nodes = ep_name, nodes

        def get_nodes(self) -> list[int]:
            return [0] * self.nodes

    parts = [Part(AZURE, 2), Part(CPU, 1), Part(AZURE, 3)]
    monkeypatch.setattr(onnxruntime.InferenceSession, "get_provider_graph_assignment_info", lambda session: parts)
    assert loaded(setup(provider=AZURE), saved(tmp_path, CHAIN)).nodes() == {AZURE: 5, CPU: 1}


def test_a_provider_that_the_package_on_the_device_lacks_is_refused() -> None:
    known = ", ".join(onnxruntime.get_available_providers())
    absent = "provider 'NoSuchExecutionProvider' is not in this build of onnxruntime"
    with pytest.raises(InputError, match=f"{absent}; it has {known}$"):
        connect("ort:provider=NoSuchExecutionProvider").info()


def test_denormals_are_kept_or_flushed(worker: AgentWorker, tmp_path: Path) -> None:
    """By a process of its own: the library sets the processor at its first session."""
    tiny = program(saved(tmp_path, PRODUCT), only={"x": constant(1e-30, 1), "s": constant(1e-9, 1)})
    with ort_cpu(threads=1, flush_denormals=True, timeout_s=60).open() as flushing:
        assert flushing.load(tiny).outputs == {"only": (0.0,)}
    assert worker.load(tiny).outputs["only"] == pytest.approx((1e-39,), rel=1e-3)


def test_memory_that_cannot_be_had_is_called_so(worker: AgentWorker, tmp_path: Path) -> None:
    graph = "g (int64[1] n) => (float[m] y) { y = ConstantOfShape(n) }"
    inputs = {"n": constant(2**50, 1, dtype="int64")}
    failing = program(saved(tmp_path, graph), only=inputs)
    words = r"^out of memory: .*Failed to allocate memory"
    with pytest.raises(ProgramError, match=words):
        worker.load(failing)


def test_telemetry_is_off_in_the_worker_and_before_the_library_is_loaded(
    worker: AgentWorker, setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = Path(f"/proc/{worker.process_id}/environ").read_bytes().split(b"\0")
    assert b"ORT_DISABLE_TELEMETRY=1" in environment
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY")
    setup()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


def test_the_worker_has_no_more_threads_than_were_asked_for(tmp_path: Path) -> None:
    def tasks(process_id: int) -> int:
        return len(list(Path(f"/proc/{process_id}/task").iterdir()))

    with ort_cpu(threads=AVAILABLE, timeout_s=60).open() as worker:
        before = tasks(worker.process_id)
        worker.load(program(saved(tmp_path, CHAIN), only=chain(1)))
        assert tasks(worker.process_id) - before == AVAILABLE - 1


@pytest.mark.parametrize(
    "spelling", ["ort-cpu:threads=1,spinning=no,flush_denormals=yes,pin=yes", f"ort:threads=1,provider={AZURE}"]
)
def test_it_is_opened_again_by_what_it_says_of_itself(spelling: str) -> None:
    info = connect(spelling).info()
    assert info.device == spelling
    assert connect(info.device).info() == info


def test_the_processor_has_one_spelling() -> None:
    assert connect(f"ort:provider={CPU},threads=1").info() == ort_cpu(threads=1).info()


def test_says_what_changes_latency() -> None:
    info = ort_cpu(threads=1, spinning=False, flush_denormals=True).info()
    own = (
        "denormals=flush",
        "first_call=left-out",
        "gap_s=0",
        "graph=packed-split-sum",
        "pin=no",
        f"provider={CPU}",
        "spinning=no",
    )
    assert info.options == own
    assert info.runtime == f"onnxruntime {onnxruntime.__version__}"


def test_refuses_a_provider_without_a_name() -> None:
    with pytest.raises(InputError, match=f"provider must name an execution provider, for example {CPU}"):
        connect("ort:provider=")
