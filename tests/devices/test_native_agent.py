"""The agent in C: answers, inputs and outputs are those of the agent in Python."""

import itertools
import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from adaptare.core import InputError, ProgramError
from adaptare.core.content_hash import canonical_json
from adaptare.devices import Feed, Program, Work, Worker, ort_cpu, program_file
from adaptare.devices.onnx_runtime import ort_native

pytestmark = pytest.mark.native

Spec = dict[str, Any]
ONNX_TYPES = {"float32": "float", "float64": "double"}
HEADER = '<ir_version: 8, opset_import: ["": 17]>'
TYPES = ["float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8"]
FILLS: list[Spec] = [
    {"uniform": 1.0, "seed": 0},
    {"uniform": 1.7e-6, "seed": 2**70 + 5},
    {"uniform": 7e4, "seed": -3},
    {"integers": 7, "seed": 1},
    {"integers": 2**32 - 1, "seed": 9},
    {"constant": 1.5},
]


def saved(folder: Path, graph: str, name: str = "model") -> Path:
    file = folder / f"{name}.onnx"
    onnx.save(onnx.parser.parse_model(f"{HEADER} {graph}"), file)
    return file


def program(*files: Path, arguments: str = "{}", **feeds: Spec) -> Program:
    made = [Feed(name, canonical_json({"inputs": inputs}), Work(1, 1, 1)) for name, inputs in feeds.items()]
    return Program("p", files[0].name, arguments, tuple(made), tuple(program_file(file) for file in files))


def identity(folder: Path, dtype: str) -> Path:
    kind = ONNX_TYPES.get(dtype, dtype)
    return saved(folder, f"g ({kind}[n,m] x) => ({kind}[n,m] y) {{ y = Identity(x) }}", dtype)


def weighted(folder: Path, width: int) -> list[Path]:
    """A product with weights in a file of their own, of `width`**2 values."""
    weights = onnx.numpy_helper.from_array(np.ones((width, width), dtype=np.float32) / width, "w")
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", width]) for name in "xy"]
    graph = onnx.helper.make_graph([node], "g", ends[:1], ends[1:], [weights])
    model = onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 17)])
    onnx.save(model, folder / "w.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    return [folder / "w.onnx", folder / "w.bin"]


@pytest.fixture(scope="module")
def agents() -> Iterator[list[Worker]]:
    """A worker of the agent in C, and one of the agent in Python."""
    with ExitStack() as stack:
        yield [stack.enter_context(device.open()) for device in (ort_native(threads=1), ort_cpu(threads=1))]


def same(values: tuple[float, ...], others: tuple[float, ...]) -> bool:
    pairs = itertools.zip_longest(values, others)
    return all(one == other or (math.isnan(one) and math.isnan(other)) for one, other in pairs)


@pytest.mark.parametrize("dtype", TYPES)
def test_inputs_are_the_same_to_the_last_bit(agents: list[Worker], tmp_path: Path, dtype: str) -> None:
    usual = {"dtype": dtype, "shape": [3, 7]}
    fills = {
        f"fill {number}": {"x": {**usual, **fill}}
        for number, fill in enumerate(FILLS)
        if "uniform" not in fill or dtype.startswith(("float", "int64"))
    }
    fills["padded"] = {"x": {**usual, "constant": 3, "padded_to": [4, 9]}}
    fills["padded uniform"] = {"x": {**usual, "uniform": 100.0, "seed": 5, "padded_to": [3, 8]}}
    if dtype.startswith("uint"):  # negative numbers have no place there
        del fills["padded uniform"]
    loaded = [agent.load(program(identity(tmp_path, dtype), **fills)) for agent in agents]
    assert {name: same(values, loaded[1].outputs[name]) for name, values in loaded[0].outputs.items()} == dict.fromkeys(
        fills, True
    )


def test_flags_are_inputs_too(agents: list[Worker], tmp_path: Path) -> None:
    graph = "g (bool[n] x) => (float[n] y) { y = Cast<to=1>(x) }"
    feeds = {
        "true": {"x": {"dtype": "bool", "shape": [3], "constant": True}},
        "drawn": {"x": {"dtype": "bool", "shape": [50], "integers": 2, "seed": 3}},
    }
    loaded = [agent.load(program(saved(tmp_path, graph), **feeds)) for agent in agents]
    assert loaded[0].outputs == loaded[1].outputs
    assert set(loaded[0].outputs["drawn"]) == {0.0, 1.0}


def test_a_long_output_is_sampled_at_the_same_places(agents: list[Worker], tmp_path: Path) -> None:
    long = program(
        identity(tmp_path, "float32"), f={"x": {"dtype": "float32", "shape": [7, 211], "uniform": 1, "seed": 3}}
    )
    loaded = [agent.load(long) for agent in agents]
    assert loaded[0].outputs == loaded[1].outputs
    assert len(loaded[0].outputs["f"]) == 493


def test_nodes_and_copies_are_counted_alike(agents: list[Worker], tmp_path: Path) -> None:
    x = {"x": {"dtype": "float32", "shape": [2, 64], "uniform": 1.0, "seed": 3}}
    cold = replace(program(*weighted(tmp_path, 64), f=x), moved_bytes=64 * 64 * 4, others_bytes=5 * 64 * 64 * 4)
    loaded = [agent.load(cold) for agent in agents]
    assert loaded[0].outputs == loaded[1].outputs
    assert loaded[0].providers == loaded[1].providers == {"CPUExecutionProvider": 1}
    assert loaded[0].copies == loaded[1].copies == 6
    assert len(agents[0].run(loaded[0].program_id, "f", 13)) == 13
    unprepared = replace(cold, arguments='{"prepared":false}')
    assert agents[0].load(unprepared).outputs == loaded[1].outputs


def test_memory_is_counted_alike(tmp_path: Path) -> None:
    """By agents that have loaded nothing else, whose memory a program could take over."""
    width, loaded = 1500, []
    x = {"x": {"dtype": "float32", "shape": [2, width], "uniform": 1.0, "seed": 3}}
    for device in (ort_native(threads=1), ort_cpu(threads=1)):
        with device.open() as agent:
            loaded.append(agent.load(program(*weighted(tmp_path, width), f=x)))
    assert loaded[0].resident_bytes == pytest.approx(loaded[1].resident_bytes, rel=0.2)
    assert loaded[0].resident_bytes > 4 * width * width
    assert loaded[0].peak_bytes > 4 * width * width


def test_facts_about_the_machine_are_the_same(agents: list[Worker]) -> None:
    ours, theirs = (agent.info for agent in agents)
    for name in ("processors", "hardware", "runtime", "threads", "cache_bytes", "providers", "gap_s"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert set(theirs.capabilities) - set(ours.capabilities) == {"attribution", "adapter_file", "fork"}
    constant = ["system", "physical_cores", "logical_processors", "allowed_processors", "virtualisation", "governor"]
    for name in [*constant, "boot", "clock_source", "large_pages", "battery"]:
        assert ours.environment[name] == theirs.environment[name], name
    assert set(theirs.environment) == set(ours.environment)
    assert ours.environment["python"] is None


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"constant": 1, "uniform": 1.0, "seed": 1}, "exactly one of constant, integers, uniform"),
        ({"uniform": 1.0}, "lacks 'seed'"),
        ({"constant": 1, "padded_to": [1, 1]}, "cannot be padded to a smaller shape"),
        ({"constant": 1, "colour": 2}, "unknown 'colour'"),
        ({"integers": 0, "seed": 1}, r"'integers' must be 1 to 2\*\*32 - 1"),
        ({"constant": 1, "dtype": "complex64"}, "unknown type 'complex64'"),
        ({"constant": 1, "shape": [2, -1]}, "no such shape"),
        ({"constant": 1, "shape": [2**30, 2**20]}, "out of memory: no room for"),
    ],
)
def test_a_spec_that_cannot_be_met_is_refused(agents: list[Worker], tmp_path: Path, spec: Spec, words: str) -> None:
    usual = {"dtype": "float32", "shape": [2, 3]}
    with pytest.raises(ProgramError, match=words):
        agents[0].load(program(identity(tmp_path, "float32"), f={"x": {**usual, **spec}}))


@pytest.mark.parametrize(
    ("feed", "words"),
    [
        ({}, "no spec for the input 'x'"),
        ({"x": {"dtype": "float32", "shape": [1, 1], "constant": 1}, "z": {}}, "2 inputs"),
    ],
)
def test_a_feed_has_the_inputs_of_its_graph(agents: list[Worker], tmp_path: Path, feed: Spec, words: str) -> None:
    with pytest.raises(ProgramError, match=words):
        agents[0].load(program(identity(tmp_path, "float32"), f=feed))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"threads": 4096}, "threads must be 1 to"),
        (
            {"provider": "AbacusExecutionProvider"},
            "'AbacusExecutionProvider' is not in this build of onnxruntime; it has",
        ),
        ({"cores": "8" + "0" * 200}, "does not permit the processors of the mask"),
    ],
)
def test_options_that_the_device_lacks_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words), ort_native(**options).open():
        pass


def test_both_agents_are_different_devices() -> None:
    native, python = ort_native(threads=1).info(), ort_cpu(threads=1).info()
    assert set(native.options) - set(python.options) == {"agent=native"}
    assert native.runtime == python.runtime


def test_memory_has_a_limit_and_the_worker_survives_it(tmp_path: Path) -> None:
    x = {"x": {"dtype": "float32", "shape": [64, 2**20], "constant": 1}}
    with ort_native(threads=1, memory_bytes=200 * 2**20).open() as worker:
        with pytest.raises(ProgramError, match="out of memory"):
            worker.load(program(identity(tmp_path, "float32"), f=x))
        small = {"x": {"dtype": "float32", "shape": [4, 4], "constant": 1}}
        loaded = worker.load(program(identity(tmp_path, "float32"), f=small))
        assert worker.run(loaded.program_id, "f", 1)
