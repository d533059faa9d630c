"""Providers of ONNX Runtime: which run a node, by whatever way the library tells it, and how they are named."""

import gc
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from adaptare.core import DeviceError, InputError, MissingPackageError, ProgramError
from adaptare.core.content_hash import canonical_json
from adaptare.devices import Feed, Program, Work, connect, program_file
from adaptare.devices.agent import ort_runtime
from adaptare.devices.agent.ort_runtime import ASSIGNMENT, OrtRuntime

CPU, XNNPACK = "CPUExecutionProvider", "XnnpackExecutionProvider"
SYSTEM_PYTHON = "/usr/bin/python3"
IS_DEBIAN = Path("/usr/lib/python3/dist-packages/onnxruntime").is_dir()
HEADER = '<ir_version: 8, opset_import: ["": 17]>'
WEIGHTS = "<float[3,4] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}>"
FLAT = f"g (float[2,3] x) => (float[2,4] y) {WEIGHTS} {{ t = Neg(x) y = MatMul(t, w) }}"
DEEP = f"g (float[1,2,3] x) => (float[1,2,4] y) {WEIGHTS} {{ t = Neg(x) y = MatMul(t, w) }}"
SETTINGS = {"provider": CPU, "spinning": True, "flush_denormals": False}


def saved(folder: Path, graph: str) -> Path:
    file = folder / "model.onnx"
    onnx.save(onnx.parser.parse_model(f"{HEADER} {graph}"), file)
    return file


def program(file: Path, *shape: int) -> Program:
    inputs = {"x": {"dtype": "float32", "shape": shape, "constant": 1.0}}
    feed = Feed("only", canonical_json({"inputs": inputs}), Work(1, 1, 1))
    return Program("p", file.name, "{}", (feed,), (program_file(file),))


@pytest.fixture
def told_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library of a version that cannot say who runs a node."""
    monkeypatch.delattr(onnxruntime.capi.onnxruntime_inference_collection.Session, ASSIGNMENT)


def counted(file: Path) -> tuple[dict[str, int], list[float], Any]:
    """Nodes by provider and outputs of a model in this process, and its session."""
    runtime = OrtRuntime()
    runtime.setup(1, SETTINGS)
    model = runtime.load(str(file.parent), file.name, {})
    call, _ = model.bind({"inputs": {"x": {"dtype": "float32", "shape": [2, 3], "constant": 1.0}}})
    return dict(model.nodes()), call().tolist(), model.session


@pytest.mark.usefixtures("told_by_nobody")
def test_a_profile_tells_who_runs_a_node_where_the_library_does_not_and_ends_with_the_first_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "profiles").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "profiles"))
    nodes, outputs, session = counted(saved(tmp_path, FLAT))
    assert nodes == {CPU: 2}
    assert outputs == (-np.ones((2, 3)) @ np.arange(1, 13).reshape(3, 4)).ravel().tolist()
    assert session.end_profiling() == ""
    del session
    gc.collect()
    assert list((tmp_path / "profiles").iterdir()) == []


@pytest.mark.usefixtures("told_by_nobody")
def test_nothing_is_left_where_no_finalizer_runs_or_the_file_is_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "profiles").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "profiles"))
    runtime, file = OrtRuntime(), saved(tmp_path, FLAT)
    runtime.setup(1, SETTINGS)
    model = runtime.load(str(tmp_path), file.name, {})
    model.bind({"inputs": {"x": {"dtype": "float32", "shape": [2, 3], "constant": 1.0}}})
    assert list((tmp_path / "profiles").iterdir()) == []
    file.write_bytes(b"no model")
    with pytest.raises(Exception, match="INVALID_PROTOBUF"):
        runtime.load(str(tmp_path), file.name, {})
    assert list((tmp_path / "profiles").iterdir()) == []


@pytest.mark.usefixtures("told_by_nobody")
def test_a_provider_that_runs_nothing_is_refused_by_its_profile_too(tmp_path: Path) -> None:
    runtime, file = OrtRuntime(), saved(tmp_path, FLAT)
    runtime.setup(1, {**SETTINGS, "provider": "AzureExecutionProvider"})
    model = runtime.load(str(file.parent), file.name, {})
    with pytest.raises(
        RuntimeError, match=r"'AzureExecutionProvider' was requested but runs none of the 2 nodes of 'mod"
    ):
        model.bind({"inputs": {"x": {"dtype": "float32", "shape": [2, 3], "constant": 1.0}}})


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Any]]:
    """Options and providers of sessions that are made, each on the processor in truth."""
    made: list[tuple[Any, Any]] = []

    class Session(onnxruntime.InferenceSession):
        def __init__(self, file: str, options: Any, providers: Any = None) -> None:
            made.append((options, providers))
            super().__init__(file, options, providers=[CPU])

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [XNNPACK, "ToyExecutionProvider", CPU])
    monkeypatch.setattr(ort_runtime.OrtModel, "_check", lambda model: None)
    return made


def test_a_provider_gets_its_options(sessions: list[tuple[Any, Any]], tmp_path: Path) -> None:
    runtime, file = OrtRuntime(), saved(tmp_path, FLAT)
    runtime.setup(2, {**SETTINGS, "provider": "ToyExecutionProvider", "provider_options": {"level": "3"}})
    runtime.load(str(file.parent), file.name, {})
    ((options, providers),) = sessions
    assert providers == [("ToyExecutionProvider", {"level": "3"}), CPU]
    assert options.intra_op_num_threads == 2


def test_a_provider_with_threads_of_its_own_gets_those_of_the_session(
    sessions: list[tuple[Any, Any]], tmp_path: Path
) -> None:
    runtime, file = OrtRuntime(), saved(tmp_path, FLAT)
    runtime.setup(4, {**SETTINGS, "provider": XNNPACK})
    runtime.load(str(file.parent), file.name, {})
    ((options, providers),) = sessions
    assert providers == [(XNNPACK, {"intra_op_num_threads": "4"}), CPU]
    assert options.intra_op_num_threads == 1


def test_what_runs_once_runs_on_the_processor(sessions: list[tuple[Any, Any]], tmp_path: Path) -> None:
    runtime, file = OrtRuntime(), saved(tmp_path, FLAT)
    runtime.setup(1, {**SETTINGS, "provider": "ToyExecutionProvider"})
    runtime.load(str(file.parent), file.name, {"prepared": False})
    assert [providers for _, providers in sessions] == [[CPU]]


def test_the_first_device_of_a_plug_in_is_taken(
    monkeypatch: pytest.MonkeyPatch, sessions: list[tuple[Any, Any]], tmp_path: Path
) -> None:
    told: list[object] = []
    devices = [SimpleNamespace(ep_name=name) for name in (CPU, "Toy", "Toy")]
    monkeypatch.setattr(onnxruntime, "register_execution_provider_library", lambda *given: told.append(given))
    monkeypatch.setattr(onnxruntime, "get_ep_devices", lambda: devices)

    class Options(onnxruntime.SessionOptions):
        def add_provider_for_devices(self, chosen: object, options: object) -> None:
            told.append((chosen, options))

    monkeypatch.setattr(onnxruntime, "SessionOptions", Options)
    runtime, file = OrtRuntime(), saved(tmp_path, FLAT)
    runtime.setup(1, {**SETTINGS, "provider": "Toy", "library": "toy.so", "provider_options": {"level": "3"}})
    runtime.load(str(file.parent), file.name, {})
    assert told == [("Toy", "toy.so"), ([devices[1]], {"level": "3"})]
    assert [providers for _, providers in sessions] == [None]
    with pytest.raises(
        ValueError, match=r"'toy.so' brings no device of 'Other' here; there are devices of CPUExec.*, Toy"
    ):
        OrtRuntime().setup(1, {**SETTINGS, "provider": "Other", "library": "toy.so"})


def test_a_library_that_is_no_plug_in_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"library '.*absent.so' is no provider for onnxruntime .*absent.so"):
        connect(f"ort:provider=Toy,library={tmp_path / 'absent.so'}").info()


@pytest.mark.parametrize(
    ("spelling", "words"),
    [
        ("ort:ep.level=3", "ep.level: these are for other providers than CPUExecutionProvider; name one by provider"),
        ("ort-mobile:style=fast", "style must be one of fixed, runtime, not 'fast'"),
        ("ort-cpu:shapes=round", "shapes must be one of free, fixed, flat, not 'round'"),
        ("ort:style=runtime", "style=runtime is for files of the ort format; use ort-mobile"),
        ("ort:format=pt", "format must be one of onnx, ort, not 'pt'"),
        ("ort:ep=3", r"option 'ep=3' is unknown; options are provider=…, ep\.…=…, library=…"),
        ("ort-cpu:python=-c", "python must be a command or a path, not '-c'"),
        ("simulated:python=python3", "option 'python=python3' is unknown"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(spelling: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        connect(spelling)


def test_a_form_of_files_is_part_of_the_device() -> None:
    info = connect("ort-mobile:threads=1,shapes=fixed,style=runtime").info()
    assert info.device == "ort-mobile:threads=1,shapes=fixed,style=runtime"
    assert "format=ort" in info.options


def test_a_library_that_cannot_read_the_files_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "__version__", "1.18.0")
    OrtRuntime().setup(1, SETTINGS)
    monkeypatch.setattr(onnxruntime, "__version__", "1.17.3")
    with pytest.raises(ImportError, match=r"onnxruntime 1\.17\.3 is too old; 1\.18 or later is needed"):
        OrtRuntime().setup(1, SETTINGS)


def script(folder: Path, text: str) -> Path:
    file = folder / "python"
    file.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    file.chmod(0o755)
    return file


def test_a_python_that_does_not_exist_is_named() -> None:
    with pytest.raises(DeviceError, match=r"this machine: 'no-such-python' does not exist there; install Python 3\.9"):
        connect("ort-cpu:python=no-such-python").info()


def test_a_python_that_is_too_old_is_named(tmp_path: Path) -> None:
    old = script(tmp_path, """echo '{"version": [3, 8, 1], "managed": false, "adaptare": ""}'""")
    with pytest.raises(DeviceError, match=r"is Python 3\.8\.1, and the agent needs 3\.9 or newer; name another one"):
        connect(f"ort-cpu:python={old}").info()


def test_a_package_that_another_python_lacks_is_named_with_the_line_that_installs_it(tmp_path: Path) -> None:
    bare = script(tmp_path, f'exec {sys.executable} -S -s -I "$@"')
    line = (
        rf"""numpy is not installed; install it on the device with: sh -c "{bare} -m pip install numpy 'onnxruntime>="""
    )
    with pytest.raises(MissingPackageError, match=line):
        connect(f"ort-cpu:python={bare}").info()


def test_the_variables_of_this_python_are_not_those_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "numpy.py").write_text("raise RuntimeError('of another Python')\n")
    assert connect(f"ort-cpu:threads=1,python={sys.executable}").info().runtime.startswith("onnxruntime 1.")


@pytest.mark.xnnpack
@pytest.mark.skipif(not IS_DEBIAN, reason="Debian's python3-onnxruntime is not installed")
def test_xnnpack_runs_products_in_two_dimensions(tmp_path: Path) -> None:
    with connect(f"ort-xnnpack:python={SYSTEM_PYTHON},threads=1,timeout_s=60").open() as worker:
        assert XNNPACK in worker.info.providers
        loaded = worker.load(program(saved(tmp_path, FLAT), 2, 3))
        assert loaded.providers == {CPU: 1, XNNPACK: 1}
        assert loaded.outputs["only"][:4] == (-15.0, -18.0, -21.0, -24.0)


@pytest.mark.xnnpack
@pytest.mark.skipif(not IS_DEBIAN, reason="Debian's python3-onnxruntime is not installed")
def test_xnnpack_runs_no_others_which_is_an_error(tmp_path: Path) -> None:
    device = connect(f"ort:provider={XNNPACK},python={SYSTEM_PYTHON},threads=1,timeout_s=60")
    words = f"provider '{XNNPACK}' was requested but runs none of the 2 nodes"
    with device.open() as worker, pytest.raises(ProgramError, match=words):
        worker.load(program(saved(tmp_path, DEEP), 1, 2, 3))
