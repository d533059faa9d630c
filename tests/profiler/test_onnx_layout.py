"""Files of weights with what calls read at their front; ONNX Runtime itself packs them and runs them."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from adaptare.profiler.onnx_layout import PACKED, read_bytes, read_first
from adaptare.profiler.onnx_session import pack
from adaptare.profiler.onnx_surgery import ALIGNMENT, change_weights

TEXT = """<ir_version: 10, opset_import: ["": 20]>
g (int64[3] ids) => (float[3, 96] y) {
  x = Gather(table, ids)
  h = MatMul(x, first)
  b = Add(h, bias)
  y = MatMul(b, second)
}"""
SHAPES = {"table": (500, 64), "first": (64, 1024), "bias": (1024,), "second": (1024, 96)}
READ = ("first", "bias", "second")


def written(folder: Path, graph: str = TEXT, shapes: dict[str, tuple[int, ...]] = SHAPES) -> Path:
    """The graph, its random weights beside it."""
    model, rng = onnx.parser.parse_model(graph), np.random.default_rng(0)
    weights = {name: rng.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in weights.items())
    change_weights(model, weights, folder / "model.onnx.data")
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    (tmp_path / "packed").mkdir()
    pack(written(tmp_path), tmp_path / "packed" / "model.onnx")
    return tmp_path / "packed" / "model.onnx"


def weights_of(graph: Path) -> dict[str, NDArray[np.float32]]:
    places = places_of(graph)
    data = (graph.parent / "model.onnx.data").read_bytes()
    return {name: np.frombuffer(data, np.float32, size // 4, offset) for name, (offset, size) in places.items()}


def places_of(graph: Path) -> dict[str, tuple[int, int]]:
    """Offset and bytes of each plain weight."""
    tensors = onnx.load(graph, load_external_data=False).graph.initializer
    entries = {each.name: {entry.key: entry.value for entry in each.external_data} for each in tensors}
    return {name: (int(each["offset"]), int(each["length"])) for name, each in entries.items()}


def calls_of(graph: Path) -> Callable[[], NDArray[np.float32]]:
    """As it is timed: with packed weights."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"ids": np.array([0, 7, 499])})[0]


def test_every_weight_is_still_what_it_was(tmp_path: Path, packed: Path) -> None:
    before, after = weights_of(tmp_path / "model.onnx"), weights_of(packed)
    assert set(before) == set(after)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert np.allclose(calls_of(packed)(), calls_of(tmp_path / "model.onnx")(), atol=1e-3)


def test_what_calls_read_lies_at_the_front(packed: Path) -> None:
    (front,) = read_bytes(packed).values()
    sizes = {name: 4 * int(np.prod(shape)) for name, shape in SHAPES.items()}
    assert front <= sum(sizes[name] + ALIGNMENT for name in READ)
    data = packed.with_name("model.onnx.data")
    assert data.stat().st_size >= front + sizes["table"] + sizes["first"] + sizes["second"]
    for tensor in onnx.load(packed, load_external_data=False).graph.initializer:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        is_packed = any(key.startswith(PACKED) for key in entries)
        assert is_packed == (tensor.name in ("first", "second"))
        assert (int(entries["offset"]) < front) == (tensor.name == "bias")


@pytest.mark.skipif(sys.platform != "linux", reason="writes into a file that is mapped")
def test_calls_read_the_front_and_nothing_else_of_what_is_packed(packed: Path) -> None:
    call = calls_of(packed)
    expected = call()

    def spoil(start: int, size: int) -> None:
        with packed.with_name("model.onnx.data").open("r+b") as data:
            data.seek(start)
            data.write(b"\xff" * size)  # not a number, any of them

    for name in ("first", "second"):
        spoil(*places_of(packed)[name])
    assert np.array_equal(call(), expected)
    spoil(0, read_bytes(packed)["model.onnx.data"])
    assert np.isnan(call()).all()


def test_without_packed_weights_all_but_tables_are_read(tmp_path: Path) -> None:
    graph = written(tmp_path)
    assert read_bytes(graph) == {"model.onnx.data": (tmp_path / "model.onnx.data").stat().st_size}
    before = weights_of(graph)
    read_first(graph)
    assert all(np.array_equal(before[name], value) for name, value in weights_of(graph).items())
    size = (tmp_path / "model.onnx.data").stat().st_size
    assert read_bytes(graph)["model.onnx.data"] <= size - 4 * 500 * 64


def test_a_weight_that_is_also_looked_up_is_read(tmp_path: Path) -> None:
    tied = TEXT.replace("y = MatMul(b, second)", "z = MatMul(b, second)\n  y = MatMul(z, table)")
    graph = written(tmp_path, tied.replace("float[3, 96]", "float[3, 64]"), {**SHAPES, "second": (1024, 500)})
    read_first(graph)
    assert read_bytes(graph) == {"model.onnx.data": (tmp_path / "model.onnx.data").stat().st_size}


def test_a_graph_without_weights_beside_it_stays_as_it_is(tmp_path: Path) -> None:
    text = '<ir_version: 10, opset_import: ["": 20]> g (float[2] x) => (float[2] y) { y = Neg(x) }'
    model = onnx.parser.parse_model(text)
    onnx.save(model, tmp_path / "model.onnx")
    before = (tmp_path / "model.onnx").read_bytes()
    read_first(tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_bytes() == before
    assert read_bytes(tmp_path / "model.onnx") == {}
