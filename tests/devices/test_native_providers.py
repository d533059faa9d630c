"""Execution providers by the agent in C: counted where the library tells its assignment, and where it does not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from adaptare.core import ProgramError
from adaptare.core.content_hash import canonical_json
from adaptare.devices import Feed, Program, Work, program_file
from adaptare.devices.native.build import build_bundle
from adaptare.devices.native.compiler import target_here
from adaptare.devices.onnx_runtime import ort_cpu, ort_native

# Debian's: it has XNNPACK, and is older than the functions that tell who runs a node.
LIBRARIES = sorted(Path("/usr/lib").glob("*/libonnxruntime.so.1.*.*"))
CPU, XNNPACK = "CPUExecutionProvider", "XnnpackExecutionProvider"
pytestmark = pytest.mark.native
X = {"x": {"dtype": "float32", "shape": [4, 32], "uniform": 1.0, "seed": 3}}
HEADER = '<ir_version: 8, opset_import: ["": 17]>'
PRODUCT = "g (float[4,32] x) => (float[4,32] y) { t = MatMul(x, w) y = Sin(t) }"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    if not LIBRARIES:
        pytest.skip("there is no libonnxruntime of the system (libonnxruntime-dev)")
    folder = tmp_path_factory.mktemp("bundles") / "bundle"
    return str(build_bundle(target_here(), folder=folder, runtime_library=LIBRARIES[-1]).folder)


def program(file: Path, arguments: str = "{}") -> Program:
    feeds = tuple(Feed(name, canonical_json({"inputs": X}), Work(1, 1, 1)) for name in "fg")
    return Program("m", file.name, arguments, feeds, (program_file(file),))


def saved(folder: Path, graph: str) -> Path:
    """A file whose graph may use `w`, a constant matrix."""
    model = onnx.parser.parse_model(f"{HEADER} {graph}")
    weights = np.linspace(-1, 1, 32 * 32, dtype=np.float32).reshape(32, 32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    onnx.save(model, folder / "m.onnx")
    return folder / "m.onnx"


def test_a_file_of_the_ort_format_gives_what_the_agent_in_python_gives(tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "m.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(str(saved(tmp_path, PRODUCT)), options, providers=[CPU])
    loaded = []
    for device in (ort_native(threads=1), ort_cpu(threads=1)):
        with device.open() as worker:
            loaded.append(worker.load(program(tmp_path / "m.ort")))
            assert len(worker.run(loaded[-1].program_id, "f", 3)) == 3
    assert loaded[0].providers == loaded[1].providers == {CPU: 2}
    assert loaded[0].outputs == loaded[1].outputs


def test_nodes_are_counted_in_a_profile_where_the_library_does_not_tell_and_none_is_left(
    bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with ort_native(threads=1, bundle=bundle).open() as worker:
        loaded = worker.load(program(saved(tmp_path, PRODUCT)))
        assert loaded.providers == {CPU: 2}
        assert len(worker.run(loaded.program_id, "g", 3)) == 3
        with pytest.raises(ProgramError, match="no spec for the input 'x'"):
            worker.load(replace(program(tmp_path / "m.onnx"), feeds=(Feed("f", "{}", Work(1, 1, 1)),)))
        assert list(tmp_path.glob("adaptare-*/profile*")) == []
        assert list(tmp_path.glob("adaptare-*/files/*"))


def test_xnnpack_runs_a_product_with_constant_weights_and_what_is_prepared(bundle: str, tmp_path: Path) -> None:
    device = ort_native(threads=1, bundle=bundle, provider=XNNPACK)
    with device.open() as worker:
        found = worker.load(program(saved(tmp_path, PRODUCT)))
        unprepared = worker.load(program(saved(tmp_path, PRODUCT), '{"prepared":false}'))
    assert (found.providers, unprepared.providers) == ({XNNPACK: 1, CPU: 1}, {CPU: 2})
    assert found.outputs["f"] == pytest.approx(unprepared.outputs["f"], rel=1e-4, abs=1e-5)
    assert f"provider={XNNPACK}" in device.info().options
    assert f"provider={XNNPACK}" in device.info().device


def test_xnnpack_that_runs_nothing_is_an_error_and_leaves_room(bundle: str, tmp_path: Path) -> None:
    with ort_native(threads=1, bundle=bundle, provider=XNNPACK).open() as worker:
        with pytest.raises(ProgramError, match=f"provider '{XNNPACK}' was requested but runs none of the 1 nodes"):
            worker.load(program(saved(tmp_path, "g (float[4,32] x) => (float[4,32] y) { y = Sin(x) }")))
        product = "g (float[4,32] x) => (float[4,32] y) { y = MatMul(x, w) }"
        assert worker.load(program(saved(tmp_path, product))).providers == {XNNPACK: 1}
