"""Devices that keep to the contract. A new device joins by one line in `DEVICES`."""

import os
import runpy
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from adaptare.devices import Device, SimulatedDevice, TorchCpu, connect, ort_cpu, this_machine, torch_device
from adaptare.devices.agent.machine import processors
from adaptare.devices.onnx_runtime import ort_mobile, ort_native
from adaptare.devices.torch_device import torch_cuda, torch_mps, torch_xpu
from adaptare.testing import DeviceSuite, onnx_programs

HERE = Path(__file__).parent
SSH_SERVER = HERE.parent / "devices" / "ssh_server.py"
EMULATED_DEVICE = HERE / "emulated_device.py"
PHONE = HERE.parent / "devices" / "phone.py"
NO_SSH = runpy.run_path(str(SSH_SERVER))["MISSING"]
PROGRAMS = SimpleNamespace(**runpy.run_path(str(HERE / "device_programs.py")))
FAILURES = PROGRAMS.FAILURES
# Debian's package, which has XNNPACK, for the Python of the system.
SYSTEM_PYTHON, XNNPACK = "/usr/bin/python3", Path("/usr/lib/python3/dist-packages/onnxruntime")


@dataclass(frozen=True)
class Case:
    """Programs may be files in the folder that they are given; a device may keep its own in another."""

    name: str
    make: Callable[[Path], Device | AbstractContextManager[Device]]
    programs: Callable[[Path], Any] = lambda folder: PROGRAMS.PYTHON


def stand_in(folder: Path) -> Device:
    """ONNX Runtime on another machine."""
    transport = runpy.run_path(str(HERE / "stand_in.py"))["StandIn"](folder, processors())
    return ort_cpu(timeout_s=60, transport=transport)


def fake_cuda(folder: Path, graphs: bool = False) -> Device:
    """A CUDA that computes on the processor."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_device, "RUNTIME", "fake_cuda:TorchRuntime")
        return torch_cuda(threads=1, timeout_s=60, graphs=graphs)


@contextmanager
def by_ssh(folder: Path) -> Iterator[Device]:
    """ONNX Runtime behind a real server on loopback."""
    with (
        runpy.run_path(str(SSH_SERVER))["ssh_server"](folder / "board") as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        server.add_python()
        patch.setenv("ADAPTARE_SSH_CONFIG", str(server.configuration))
        yield connect(f"{server.spelling}:timeout_s=60")


def emulated(folder: Path) -> Device:
    """The agent in C for aarch64."""
    return runpy.run_path(str(EMULATED_DEVICE))["device"](folder)


@contextmanager
def by_adb(folder: Path) -> Iterator[Device]:
    """The agent in C behind a real adbd."""
    with runpy.run_path(str(PHONE))["phone"](folder / "phone") as phone:
        yield connect(f"{phone.spelling}:timeout_s=60")


@contextmanager
def native_by_ssh(folder: Path) -> Iterator[Device]:
    """The agent in C behind a real ssh server on loopback, on a device without Python."""
    programs = runpy.run_path(str(PHONE))["PROGRAMS"]
    with (
        runpy.run_path(str(SSH_SERVER))["ssh_server"](folder / "board", programs=programs) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("ADAPTARE_SSH_CONFIG", str(server.configuration))
        yield connect(f"ssh://{server.target}/ort-native:timeout_s=60")


def xnnpack(folder: Path) -> Device:
    """Another Python of this machine."""
    return connect(f"ort-xnnpack:python={SYSTEM_PYTHON},threads=1,timeout_s=60")


SSH = [pytest.mark.ssh, pytest.mark.skipif(bool(NO_SSH), reason=NO_SSH or "it is installed")]
BROWSER = runpy.run_path(str(HERE / "browser_device.py"))


def browser(name: str, options: str, *flags: str) -> Any:
    """ONNX Runtime Web in a page of its own."""

    @contextmanager
    def opened(folder: Path) -> Iterator[Device]:
        with BROWSER["opened"](name, folder, *flags):
            yield connect(f"browser:{name}/ort-web:{options},timeout_s=60")

    return pytest.param(Case(f"browser {name}", opened, onnx_programs), marks=BROWSER["MARKS"])


DEBIAN = [
    pytest.mark.xnnpack,
    pytest.mark.skipif(not XNNPACK.is_dir(), reason="Debian's python3-onnxruntime is not installed"),
]
DEVICES = [
    Case("simulated", lambda folder: SimulatedDevice(failures=FAILURES)),
    Case("torch-cpu", lambda folder: TorchCpu(threads=1, timeout_s=60)),
    pytest.param(
        Case("torch-cpu compiled", lambda folder: TorchCpu(threads=1, compile=True), PROGRAMS.torch_programs),
        marks=pytest.mark.slow,
    ),
    pytest.param(Case("fake torch-cuda", fake_cuda, PROGRAMS.torch_programs), marks=pytest.mark.slow),
    pytest.param(
        Case("fake torch-cuda with graphs", lambda folder: fake_cuda(folder, graphs=True), PROGRAMS.torch_programs),
        marks=pytest.mark.slow,
    ),
    Case("ort-cpu", lambda folder: ort_cpu(threads=1, timeout_s=60), PROGRAMS.onnx_programs),
    pytest.param(
        Case("ort-mobile", lambda folder: ort_mobile(threads=1, timeout_s=60), PROGRAMS.ort_programs),
        marks=pytest.mark.slow,
    ),
    Case("remote stand-in", stand_in, PROGRAMS.onnx_programs),
    pytest.param(
        Case("ort-native", lambda folder: ort_native(threads=1, timeout_s=60), onnx_programs), marks=pytest.mark.native
    ),
    pytest.param(Case("aarch64", emulated, onnx_programs), marks=pytest.mark.qemu),
    pytest.param(Case("adb", by_adb, onnx_programs), marks=[pytest.mark.native, pytest.mark.adb]),
    pytest.param(Case("ssh native", native_by_ssh, onnx_programs), marks=[pytest.mark.native, *SSH]),
    pytest.param(Case("ssh", by_ssh, onnx_programs), marks=SSH),
    browser("one-thread", "threads=1"),
    browser("two-threads", "threads=2"),
    browser("webgpu", "threads=1,backend=webgpu", *BROWSER["SOFTWARE_GPU"]),
    pytest.param(Case("ort-xnnpack", xnnpack, PROGRAMS.flat_programs), marks=DEBIAN),
]
if torch.cuda.is_available():
    DEVICES += [
        Case("torch-cuda", lambda folder: torch_cuda(threads=1), PROGRAMS.torch_programs),
        Case("torch-cuda with graphs", lambda folder: torch_cuda(threads=1, graphs=True), PROGRAMS.torch_programs),
        Case("torch-cuda compiled", lambda folder: torch_cuda(threads=1, compile=True), PROGRAMS.torch_programs),
    ]
if torch.backends.mps.is_available():
    DEVICES += [Case("torch-mps", lambda folder: torch_mps(threads=1), PROGRAMS.torch_programs)]
if torch.xpu.is_available():
    DEVICES += [Case("torch-xpu", lambda folder: torch_xpu(threads=1), PROGRAMS.torch_programs)]


@pytest.fixture(scope="module", params=DEVICES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(scope="module")
def programs(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return case.programs(tmp_path_factory.mktemp("programs"))


@pytest.fixture(scope="module")
def device(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    paths = [str(HERE.parent / "worker_modules"), *filter(None, [os.environ.get("PYTHONPATH")])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        made = case.make(tmp_path_factory.mktemp("device"))
        with made if isinstance(made, AbstractContextManager) else nullcontext(made) as opened:
            yield opened


class TestDevice(DeviceSuite):
    """Every device of the list."""


def test_a_stand_in_tells_of_itself_and_nothing_of_its_host(tmp_path: Path) -> None:
    facts = runpy.run_path(str(HERE / "stand_in.py"))
    host = this_machine()
    device = stand_in(tmp_path)
    with device.open() as worker:
        info, told = device.info(), worker.info
    assert (info.hardware.partition(" (")[0], info.cache_bytes) == (facts["HARDWARE"], facts["CACHE_BYTES"])
    assert (told.free_bytes, info.threads) == (facts["FREE_BYTES"], 1)
    assert told.environment["large_pages"] == "never"
    assert told.environment["battery"] == {"capacity": "61", "status": None}
    assert {info.hardware, info.cache_bytes, told.free_bytes}.isdisjoint(
        {host.hardware, host.cache_bytes, host.free_bytes}
    )


def test_a_stand_in_shares_no_file_with_its_host_and_is_brought_each_once(tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    transport = runpy.run_path(str(HERE / "stand_in.py"))["StandIn"](tmp_path / "remote", processors())
    device, good = ort_cpu(timeout_s=60, transport=transport), PROGRAMS.onnx_programs(tmp_path / "host").good
    with device.open() as worker:
        outputs = worker.load(good).outputs
    shutil.rmtree(tmp_path / "host")
    with device.open() as worker:
        assert worker.load(good).outputs == outputs
    assert transport.brought == ["good.onnx"]
    assert [file.is_symlink() for file in (transport.storage / "files").iterdir()] == [False]
