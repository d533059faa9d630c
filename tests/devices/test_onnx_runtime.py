"""ONNX Runtime: what is bound against numpy, who runs the nodes, and what a feed may say."""

import importlib.metadata
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from adaptare.devices import (
    Feed,
    InputError,
    MissingPackageError,
    OnnxRuntime,
    Program,
    ProgramError,
    Work,
    canonical_json,
    connect,
    onnx_runtime,
    ort_cpu,
    ort_runtime,
)

Spec = dict[str, Any]
Setup = Callable[..., None]

CPU, AZURE = "CPUExecutionProvider", "AzureExecutionProvider"
AVAILABLE = len(os.sched_getaffinity(0))
HEADER = '<ir_version: 8, opset_import: ["": 17]>'
# An adapter whose rank is left open, as the exporter writes it.
CHAIN = "g (float[n,4] x, float[4,r] A, float[r,3] B) => (float[n,3] y) { t = MatMul(x, A) y = MatMul(t, B) }"
PRODUCT = "g (float[1] x, float[1] s) => (float[1] y) { y = Mul(x, s) }"


def saved(folder: Path, graph: str) -> str:
    file = folder / "model.onnx"
    onnx.save(onnx.parser.parse_model(f"{HEADER} {graph}"), file)
    return str(file)


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> Spec:
    return {"dtype": "float32", "shape": list(shape), "normal": scale, "seed": seed}


def constant(value: float, *shape: int, dtype: str = "float32") -> Spec:
    return {"dtype": dtype, "shape": list(shape), "constant": value}


def chain(rank: int) -> dict[str, Spec]:
    return {"x": normal(2, 4, seed=1), "A": normal(4, rank, seed=2), "B": normal(rank, 3, seed=3)}


def drawn(spec: Spec) -> NDArray[np.float32]:
    return np.random.default_rng(spec["seed"]).standard_normal(spec["shape"], dtype=np.float32)


def program(source: str, **feeds: dict[str, Spec]) -> Program:
    made = [Feed(name, canonical_json({"inputs": inputs}), Work(1, 1, 1)) for name, inputs in feeds.items()]
    return Program("p", source, "{}", tuple(made))


def output(source: str, inputs: dict[str, Spec]) -> list[float]:
    call, restore = ort_runtime.load(source, {}).bind({"inputs": inputs})
    restore()
    call()
    return call().tolist()


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch) -> Setup:
    """Sets the runtime up in this process, on one thread unless told otherwise."""
    monkeypatch.setattr(ort_runtime, "_chosen", {})
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "1")

    def settle(**options: object) -> None:
        usual = {"provider": CPU, "threads": 1, "spinning": True, "flush_denormals": False}
        ort_runtime.setup({**usual, **options})

    settle()
    return settle


@pytest.fixture
def adapter(setup: Setup, tmp_path: Path) -> str:
    return saved(tmp_path, CHAIN)


@pytest.mark.parametrize("rank", [1, 5])
def test_bound_outputs_are_those_of_numpy(adapter: str, rank: int) -> None:
    inputs = chain(rank)
    expected = drawn(inputs["x"]) @ drawn(inputs["A"]) @ drawn(inputs["B"])
    assert output(adapter, inputs) == pytest.approx(expected.ravel().tolist(), rel=1e-5, abs=1e-6)


def test_rank_0_gives_zeros(adapter: str) -> None:
    assert output(adapter, chain(0)) == [0.0] * 6


@pytest.mark.parametrize("spinning", [True, False])
def test_threads_of_one_session_leave_the_processors_to_the_others(setup: Setup, adapter: str, spinning: bool) -> None:
    setup(threads=2, spinning=spinning)
    options = ort_runtime.load(adapter, {})._session.get_session_options()
    assert options.intra_op_num_threads == 2
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == str(int(spinning))
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"


@pytest.mark.parametrize("rank", [0, 2])
def test_an_adapter_padded_to_a_larger_rank_gives_the_same(adapter: str, rank: int) -> None:
    inputs = chain(rank)
    padded = {"x": inputs["x"], "A": {**inputs["A"], "padded_to": [4, 8]}, "B": {**inputs["B"], "padded_to": [8, 3]}}
    assert output(adapter, padded) == pytest.approx(output(adapter, inputs), rel=1e-5, abs=1e-6)


def test_padding_is_zeros_after_the_values() -> None:
    assert ort_runtime.filled("x", {**constant(7, 1, 2), "padded_to": [2, 3]}).tolist() == [[7, 7, 0], [0, 0, 0]]


def test_feeds_of_one_program_keep_their_own_shapes(tmp_path: Path) -> None:
    feeds = {f"rank{rank}": chain(rank) for rank in (0, 1, 3)}
    with ort_cpu(threads=1, timeout_s=60).open() as worker:
        loaded = worker.load(program(saved(tmp_path, CHAIN), **feeds))
        times = [worker.run(loaded.program_id, name, 2) for name in feeds]
    outputs = loaded.outputs
    assert outputs["rank0"] == (0.0,) * 6
    assert len({outputs["rank0"], outputs["rank1"], outputs["rank3"]}) == 3
    assert [len(seconds) for seconds in times] == [2, 2, 2]


def test_every_call_writes_into_the_output_that_was_bound(setup: Setup, tmp_path: Path) -> None:
    inputs = {"x": constant(4, 1), "s": constant(2, 1)}
    call, restore = ort_runtime.load(saved(tmp_path, PRODUCT), {}).bind({"inputs": inputs})
    restore()
    bound = call()
    assert bound.tolist() == [8.0]
    restore()
    places = [value.data_ptr() for value in bound._binding.get_outputs()]
    for value in (5.0, 6.0):
        bound._inputs[0].update_inplace(np.array([value], dtype=np.float32))
        assert call() is bound
        assert bound.tolist() == [2 * value]
        restore()
    assert [value.data_ptr() for value in bound._binding.get_outputs()] == places


def test_every_output_is_bound_and_the_first_is_told(setup: Setup, tmp_path: Path) -> None:
    source = saved(tmp_path, "g (float[n] x) => (float[n] y, float[n] z) { y = Neg(x) z = Abs(x) }")
    assert output(source, {"x": constant(3, 2)}) == [-3.0, -3.0]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"dtype": "int64", "integers": 50, "seed": 4}, np.random.default_rng(4).integers(0, 50, (2, 3))),
        ({"dtype": "bool", "integers": 2, "seed": 4}, np.random.default_rng(4).integers(0, 2, (2, 3)).astype(bool)),
        ({"dtype": "float32", "normal": 0.5, "seed": 4}, drawn({"seed": 4, "shape": (2, 3)}) / 2),
        ({"dtype": "float16", "normal": 1.0, "seed": 4}, drawn({"seed": 4, "shape": (2, 3)}).astype(np.float16)),
        ({"dtype": "int32", "constant": 9}, np.full((2, 3), 9, dtype=np.int32)),
    ],
    ids=["integers", "truths", "normal", "half", "constant"],
)
def test_an_input_is_filled_as_its_spec_says(spec: Spec, expected: NDArray[Any]) -> None:
    made = ort_runtime.filled("x", {**spec, "shape": [2, 3]})
    assert made.dtype == expected.dtype
    assert np.array_equal(made, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"uniform": 1.0}, r"'x' must be filled by exactly one of constant, integers, normal, not by \['uniform'\]"),
        ({}, r"not by \[\]"),
        ({"normal": 1.0, "constant": 2.0, "seed": 1}, r"not by \['constant', 'normal'\]"),
        ({"normal": 1.0}, "'x': its spec lacks seed"),
        ({"constant": 1.0, "padded_to": [2, 2]}, r"'x' of shape \[2, 3\] cannot be padded to \[2, 2\]"),
        ({"constant": 1.0, "padded_to": [6]}, r"'x' of shape \[2, 3\] cannot be padded to \[6\]"),
    ],
    ids=["unknown fill", "no fill", "two fills", "no seed", "padded to less", "padded to fewer axes"],
)
def test_a_spec_that_cannot_be_met_is_refused(change: Spec, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ort_runtime.filled("x", {"dtype": "float32", "shape": [2, 3], **change})


def test_an_input_without_a_spec_is_named(adapter: str) -> None:
    with pytest.raises(ValueError, match=r"no spec for inputs \['A', 'B'\]; it has \['x'\]"):
        output(adapter, {"x": normal(2, 4)})


def test_a_spec_without_an_input_is_named(adapter: str) -> None:
    with pytest.raises(ValueError, match=r"the graph has no inputs \['alpha'\]; it has \['x', 'A', 'B'\]"):
        output(adapter, {**chain(1), "alpha": constant(1, 1)})


@pytest.mark.parametrize("where", ["load", "bind"])
def test_active_adapters_are_refused(adapter: str, where: str) -> None:
    arguments = {"inputs": chain(1), "active_adapters": ["a.onnx_adapter"]}
    with pytest.raises(ValueError, match="a bound run ignores active_adapters without a word; give their tensors"):
        ort_runtime.load(adapter, arguments if where == "load" else {}).bind(arguments)


def test_a_worker_answers_a_bad_feed_with_its_words_and_lives(tmp_path: Path) -> None:
    source = saved(tmp_path, PRODUCT)
    with ort_cpu(threads=1, timeout_s=60).open() as worker:
        with pytest.raises(ProgramError, match=r"^ValueError: the feed has no spec for inputs \['x', 's'\]"):
            worker.load(program(source, only={}))
        with pytest.raises(ProgramError, match=r"^NoSuchFile: .*absent.onnx"):
            worker.load(program("absent.onnx", only={}))
        good = program(source, only={"x": constant(4, 1), "s": constant(2, 1)})
        assert worker.load(good).outputs == {"only": (8.0,)}


def test_every_node_is_counted_for_the_provider_that_runs_it(tmp_path: Path) -> None:
    with OnnxRuntime(threads=1, timeout_s=60).open() as worker:
        assert worker.load(program(saved(tmp_path, CHAIN), only=chain(1))).providers == {CPU: 2}


def test_a_provider_that_runs_nothing_is_refused(setup: Setup, adapter: str) -> None:
    setup(provider=AZURE)
    with pytest.raises(RuntimeError, match=f"provider '{AZURE}' was requested but runs none of the 2 nodes"):
        ort_runtime.load(adapter, {})


def test_a_provider_that_runs_a_part_is_accepted(setup: Setup, adapter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Part:
        def __init__(self, ep_name: str, nodes: int) -> None:
            self.ep_name, self.nodes = ep_name, nodes

        def get_nodes(self) -> list[int]:
            return [0] * self.nodes

    parts = [Part(AZURE, 2), Part(CPU, 1), Part(AZURE, 3)]
    monkeypatch.setattr(onnxruntime.InferenceSession, "get_provider_graph_assignment_info", lambda session: parts)
    setup(provider=AZURE)
    assert ort_runtime.providers(ort_runtime.load(adapter, {})) == {AZURE: 5, CPU: 1}


def test_a_provider_that_the_package_lacks_is_refused_at_once() -> None:
    known = ", ".join(onnxruntime.get_available_providers())
    absent = "provider 'NoSuchExecutionProvider' is not in this build of onnxruntime"
    with pytest.raises(InputError, match=f"{absent}; it has {known}$"):
        connect("ort:provider=NoSuchExecutionProvider")


def test_a_provider_of_another_build_is_not_available(setup: Setup) -> None:
    other = next(name for name in onnxruntime.get_all_providers() if name not in onnxruntime.get_available_providers())
    with pytest.raises(RuntimeError, match=f"provider '{other}' is not available; available are .*{CPU}"):
        setup(provider=other)


def test_a_version_that_cannot_say_who_runs_a_node_is_refused(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(onnxruntime.capi.onnxruntime_inference_collection.Session, "get_provider_graph_assignment_info")
    with pytest.raises(RuntimeError, match=r"cannot say which provider runs a node; install 1\.24 or later"):
        setup()


@pytest.mark.parametrize(("flush", "expected"), [(False, pytest.approx(1e-39, rel=1e-3)), (True, 0.0)])
def test_denormals_are_kept_or_flushed(tmp_path: Path, flush: bool, expected: object) -> None:
    inputs = {"x": constant(1e-30, 1), "s": constant(1e-9, 1)}
    with ort_cpu(threads=1, flush_denormals=flush, timeout_s=60).open() as worker:
        outputs = worker.load(program(saved(tmp_path, PRODUCT), only=inputs)).outputs
    assert outputs["only"][0] == expected


def test_memory_that_cannot_be_had_is_called_so(tmp_path: Path) -> None:
    graph = "g (int64[1] n) => (float[m] y) { y = ConstantOfShape(n) }"
    inputs = {"n": constant(2**50, 1, dtype="int64")}
    failing = program(saved(tmp_path, graph), only=inputs)
    words = r"^out of memory: .*Failed to allocate memory"
    with ort_cpu(threads=1, timeout_s=60).open() as worker, pytest.raises(ProgramError, match=words):
        worker.load(failing)


def test_telemetry_is_off_before_the_library_is_loaded(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY")
    setup()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


def test_telemetry_is_off_in_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    with ort_cpu(threads=1, timeout_s=60).open() as worker:
        environment = Path(f"/proc/{worker.process_id}/environ").read_bytes().split(b"\0")
    assert b"ORT_DISABLE_TELEMETRY=1" in environment


def on_request(policy: Path = Path("/sys/kernel/mm/transparent_hugepage/enabled")) -> bool:
    """Whether the system gives large pages to those who ask, and the C library can ask."""
    library, version = platform.libc_ver()
    can_ask = library == "glibc" and tuple(map(int, version.split("."))) >= (2, 35)
    return can_ask and policy.exists() and "[madvise]" in policy.read_text()


@pytest.mark.skipif(not on_request(), reason="this system gives large pages to all or to none, or cannot be asked")
def test_what_programs_allocate_lies_in_large_pages_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    doubled = program(
        saved(tmp_path, "g (float[n] x) => (float[n] y) { y = Add(x, x) }"), only={"x": constant(1, 2**23)}
    )

    def large_kib() -> int:
        with ort_cpu(threads=1, timeout_s=60).open() as worker:
            worker.load(doubled)
            lines = Path(f"/proc/{worker.process_id}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("AnonHugePages:"))

    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    ours = large_kib()
    monkeypatch.setenv("GLIBC_TUNABLES", "")
    assert ours >= large_kib() + 2**14, "the output of 32 MiB; numpy asks for itself"


@pytest.mark.parametrize("threads", sorted({1, AVAILABLE}))
def test_the_worker_has_no_more_threads_than_were_asked_for(tmp_path: Path, threads: int) -> None:
    def tasks(process_id: int) -> int:
        return len(list(Path(f"/proc/{process_id}/task").iterdir()))

    with ort_cpu(threads=threads, timeout_s=60).open() as worker:
        before = tasks(worker.process_id)
        worker.load(program(saved(tmp_path, CHAIN), only=chain(1)))
        assert tasks(worker.process_id) - before == threads - 1


@pytest.mark.parametrize(
    "spelling",
    [
        "ort-cpu:threads=1",
        "ort-cpu:threads=1,pin=no,spinning=no,flush_denormals=yes",
        f"ort:provider={AZURE},threads=1",
        f"ort:provider={AZURE},threads=1,spinning=no",
    ],
)
def test_it_is_opened_again_by_what_it_says_of_itself(spelling: str) -> None:
    info = connect(spelling).info()
    assert info.device == spelling
    assert connect(info.device).info() == info


def test_the_processor_has_one_spelling() -> None:
    assert (
        connect(f"ort:provider={CPU},threads=1").info() == connect("ort:threads=1").info() == ort_cpu(threads=1).info()
    )


@pytest.mark.parametrize("option", ["pin=no", "spinning=no", "flush_denormals=yes"])
def test_every_option_takes_part_in_equality(option: str) -> None:
    assert connect(f"ort-cpu:threads=1,{option}").info().options != ort_cpu(threads=1).info().options


def test_says_what_changes_latency() -> None:
    info = ort_cpu(threads=1, spinning=False, flush_denormals=True).info()
    assert info.options == ("denormals=flush", "pin=yes", f"provider={CPU}", "spinning=no")
    assert info.runtime == f"onnxruntime {onnxruntime.__version__}"


def test_finds_the_version_of_a_build_with_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "onnxruntime":
            raise importlib.metadata.PackageNotFoundError(name)
        return {"onnxruntime-gpu": "9.9"}[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(importlib.metadata, "packages_distributions", lambda: {"onnxruntime": ["onnxruntime-gpu"]})
    assert ort_cpu(threads=1).info().runtime == "onnxruntime 9.9"


@pytest.mark.parametrize("threads", [0, AVAILABLE + 1])
def test_refuses_threads_that_cannot_be_had(threads: int) -> None:
    with pytest.raises(InputError, match=f"threads must be 1 to {AVAILABLE} here, not {threads}"):
        ort_cpu(threads=threads)


def test_refuses_a_provider_without_a_name() -> None:
    with pytest.raises(InputError, match=f"provider must name an execution provider, for example {CPU}"):
        connect("ort:provider=")


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"onnxruntime is not installed; .*pip install 'adaptare\[onnx\]'"):
        onnx_runtime.OnnxRuntime()
