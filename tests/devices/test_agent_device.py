"""Options of a device: applied in the worker, spelled again, and part of the identity."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from adaptare.core import InputError, MissingPackageError
from adaptare.devices import AgentDevice, TorchCpu, connect, ort_cpu
from adaptare.devices.onnx_runtime import ort
from adaptare.devices.transport import ended_by

MakeDevice = Callable[..., AgentDevice]

AVAILABLE = len(os.sched_getaffinity(0))


def test_a_pinned_worker_has_as_many_processors_as_threads_and_the_caller_keeps_its_own(
    plain_device: MakeDevice,
) -> None:
    before = os.sched_getaffinity(0)
    with plain_device(threads=1, pin=True).open() as worker:
        assert len(worker.info.processors) == worker.info.threads == 1
        assert os.sched_getaffinity(0) == before


def test_unpinned_workers_may_use_every_processor_and_have_a_thread_per_core(plain_device: MakeDevice) -> None:
    device = plain_device(threads=None)
    with device.open() as worker:
        assert worker.info.processors == tuple(sorted(os.sched_getaffinity(0)))
        assert worker.info.threads == worker.info.environment["physical_cores"]


def test_without_options_the_spelling_names_only_the_threads(plain_device: MakeDevice) -> None:
    info = plain_device(memory_bytes=2**30, timeout_s=70.0).info()
    assert info.device == "plain:threads=1"
    assert info.options == ("first_call=left-out", "gap_s=0", "pin=no")
    assert not info.counts_first_call


def test_what_differs_from_the_default_is_spelled_and_told(plain_device: MakeDevice) -> None:
    options = {"pin": True, "gap_s": 0.25, "first_call": "counted"}
    info = plain_device(**options, spelled={"mode": "fast"}, described={"kind": "new"}).info()
    assert set(info.device.split(":")[1].split(",")) == {
        "threads=1",
        "mode=fast",
        "pin=yes",
        "gap_s=0.25",
        "first_call=counted",
    }
    assert info.options == ("first_call=counted", "gap_s=0.25", "kind=new", "pin=yes")
    assert info.counts_first_call


@pytest.mark.skipif(AVAILABLE < 2, reason="one processor runs one thread")
def test_several_threads_have_a_gap_unless_told_otherwise(plain_device: MakeDevice) -> None:
    usual, none = (plain_device(threads=2, gap_s=gap_s).info() for gap_s in (None, 0.0))
    assert ("gap_s=0.05" in usual.options, usual.device) == (True, "plain:threads=2")
    assert ("gap_s=0" in none.options, none.device) == (True, "plain:threads=2,gap_s=0")


def test_cores_are_those_of_the_mask_and_part_of_the_identity(plain_device: MakeDevice) -> None:
    device = plain_device(threads=None, cores="1")
    with device.open() as worker:
        assert worker.info.processors == (0,)
        assert worker.environment()["allowed_processors"] == [0]
    assert (device.info().threads, device.info().device) == (1, "plain:threads=1,cores=1")
    assert "cores=1" in device.info().options


def test_who_it_is_is_known_after_one_opening(plain_device: MakeDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    device = plain_device()
    with device.open():
        pass
    known = device.info()
    monkeypatch.setattr(device, "_transport", None)
    assert device.info() == known


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"threads": 0}, "threads must be at least 1, not 0"),
        ({"timeout_s": -1.5}, "timeout_s must be above 0, not -1.5"),
        ({"memory_bytes": -1}, "memory_bytes must be at least 1, not -1"),
        ({"gap_s": -0.1}, "gap_s must be 0 to 10, not -0.1"),
        ({"first_call": "maybe"}, "first_call must be one of left-out, counted, not 'maybe'"),
    ],
)
def test_options_that_no_device_can_have_are_refused_at_once(option: dict[str, object], message: str) -> None:
    for device in (TorchCpu, ort, ort_cpu):
        with pytest.raises(InputError, match=message):
            device(**option)


def test_threads_that_the_device_lacks_are_refused_by_it() -> None:
    with pytest.raises(InputError, match=f"threads must be 1 to {AVAILABLE} here, not {AVAILABLE + 1}"):
        ort_cpu(threads=AVAILABLE + 1).info()


@pytest.mark.parametrize(
    ("spelling", "package", "extra"), [("torch-cpu", "torch", "torch"), ("ort-cpu", "onnxruntime", "onnx")]
)
def test_without_its_package_a_device_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelling: str, package: str, extra: str
) -> None:
    """The worker, and not the process that asks, is the one that lacks it."""
    lacking = f"""
import importlib.metadata, sys

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name == {package!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

def version(name, real=importlib.metadata.version):
    if name == {package!r}:
        raise importlib.metadata.PackageNotFoundError(name)
    return real(name)

sys.meta_path.insert(0, Nothing())
importlib.metadata.version = version
"""
    (tmp_path / "sitecustomize.py").write_text(lacking)
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    message = rf"^{package} is not installed; install it with: pip install 'adaptare\[{extra}\]'$"
    with pytest.raises(MissingPackageError, match=message):
        connect(spelling).info()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (3, "exit code 3"),
        (-9, "signal SIGKILL (killed"),
        (139, "signal SIGSEGV"),
        (255, "exit code 255"),
    ],
)
def test_an_exit_code_is_told_as_the_signal_that_it_stands_for(code: int, words: str) -> None:
    assert ended_by(code).startswith(words)
