"""What every device keeps to. A new device joins by one line in `DEVICES`."""

import json
import os
import runpy
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from adaptare.devices import (
    AttributingWorker,
    Device,
    DeviceError,
    ForgettingWorker,
    MeteredWorker,
    Program,
    ProgramError,
    SimulatedDevice,
    TorchCpu,
    WatchedWorker,
    Worker,
    WorkerDiedError,
    connect,
    ort_cpu,
    torch_device,
)
from adaptare.devices.agent.machine import Machine, processors
from adaptare.devices.onnx_runtime import ort_mobile
from adaptare.devices.simulated_noise import Bursts, Drift, Jitter, OpeningOffset, WarmUp
from adaptare.devices.torch_device import torch_cuda, torch_mps, torch_xpu

HERE = Path(__file__).parent
SSH_SERVER = HERE.parent / "devices" / "ssh_server.py"
NO_SSH = runpy.run_path(str(SSH_SERVER))["MISSING"]
JAVASCRIPT_DEVICE = HERE / "javascript_device.py"
PROGRAMS = SimpleNamespace(**runpy.run_path(str(HERE / "device_programs.py")))
FEEDS, FAILURES = PROGRAMS.FEEDS, PROGRAMS.FAILURES
NOISE = (Jitter(0.05), Bursts(0.1, 3.0), Drift(0.1), WarmUp(5, 2.0), OpeningOffset(0.03))
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


def xnnpack(folder: Path) -> Device:
    """Another Python of this machine."""
    return connect(f"ort-xnnpack:python={SYSTEM_PYTHON},threads=1,timeout_s=60")


STAND_IN = Case("remote stand-in", stand_in, PROGRAMS.onnx_programs)
JAVASCRIPT = Case(
    "javascript", lambda folder: runpy.run_path(str(JAVASCRIPT_DEVICE))["device"](), PROGRAMS.javascript_programs
)
NODE = [
    pytest.mark.other_languages,
    pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed"),
]
SSH = [pytest.mark.ssh, pytest.mark.skipif(bool(NO_SSH), reason=NO_SSH or "it is installed")]
DEBIAN = [
    pytest.mark.xnnpack,
    pytest.mark.skipif(not XNNPACK.is_dir(), reason="Debian's python3-onnxruntime is not installed"),
]
DEVICES = [
    Case("simulated", lambda folder: SimulatedDevice(failures=FAILURES)),
    Case("simulated with noise", lambda folder: SimulatedDevice(noise=NOISE, seed=3, failures=FAILURES)),
    Case("torch-cpu", lambda folder: TorchCpu(threads=1, timeout_s=60)),
    Case("torch-cpu compiled", lambda folder: TorchCpu(threads=1, compile=True), PROGRAMS.torch_programs),
    Case("fake torch-cuda", fake_cuda, PROGRAMS.torch_programs),
    Case("fake torch-cuda with graphs", lambda folder: fake_cuda(folder, graphs=True), PROGRAMS.torch_programs),
    Case("ort-cpu", lambda folder: ort_cpu(threads=1, timeout_s=60), PROGRAMS.onnx_programs),
    Case("ort-mobile", lambda folder: ort_mobile(threads=1, timeout_s=60), PROGRAMS.ort_programs),
    STAND_IN,
    pytest.param(JAVASCRIPT, marks=NODE),
    pytest.param(Case("ort-xnnpack", xnnpack, PROGRAMS.flat_programs), marks=DEBIAN),
    pytest.param(Case("ssh", by_ssh, PROGRAMS.onnx_programs), marks=SSH),
]
ACCELERATED = [
    Case("torch-cuda", lambda folder: torch_cuda(threads=1), PROGRAMS.torch_programs),
    Case("torch-cuda with graphs", lambda folder: torch_cuda(threads=1, graphs=True), PROGRAMS.torch_programs),
    Case("torch-cuda compiled", lambda folder: torch_cuda(threads=1, compile=True), PROGRAMS.torch_programs),
    Case("torch-mps", lambda folder: torch_mps(threads=1), PROGRAMS.torch_programs),
    Case("torch-xpu", lambda folder: torch_xpu(threads=1), PROGRAMS.torch_programs),
]


def absence(case: Case) -> str:
    """Why a device cannot be had here; empty if it can."""
    try:
        case.make(HERE).info()
    except DeviceError as error:
        return str(error)
    return ""


ABSENT = {case.name: absence(case) for case in ACCELERATED}
DEVICES += [case for case in ACCELERATED if not ABSENT[case.name]]


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


@pytest.fixture(scope="module")
def worker(device: Device) -> Iterator[Worker]:
    with device.open() as opened:
        yield opened


@pytest.mark.parametrize("name", ABSENT)
def test_a_device_that_is_not_here_says_what_to_do(name: str) -> None:
    if ABSENT[name]:
        assert any(words in ABSENT[name] for words in ("install", "must list", "choose another"))
        pytest.skip(ABSENT[name])


def test_says_the_same_of_itself_twice(device: Device) -> None:
    assert device.info() == device.info()


def test_names_itself_hardware_runtime_and_threads(device: Device) -> None:
    info = device.info()
    assert all((info.device, info.hardware, info.runtime))
    assert info.threads >= 1


def test_sorts_the_options_that_change_latency(device: Device) -> None:
    options = device.info().options
    assert list(options) == sorted(options)
    assert all("=" in option for option in options)


@pytest.mark.parametrize("calls", [1, 7])
def test_gives_one_positive_time_per_call(worker: Worker, calls: int, programs: Any) -> None:
    loaded = worker.load(programs.good)
    times = worker.run(loaded.program_id, "short", calls)
    assert len(times) == calls
    assert all(isinstance(seconds, float) and seconds > 0 for seconds in times)


def test_runs_every_feed_of_a_program(worker: Worker, programs: Any) -> None:
    loaded = worker.load(programs.good)
    assert [len(worker.run(loaded.program_id, feed.name, 2)) for feed in FEEDS] == [2, 2]


def test_outputs_are_the_same_at_each_loading(worker: Worker, programs: Any) -> None:
    assert worker.load(programs.good).outputs == worker.load(programs.good).outputs


def test_outputs_name_no_feed_that_the_program_lacks(worker: Worker, programs: Any) -> None:
    assert set(worker.load(programs.good).outputs) <= {feed.name for feed in FEEDS}


def test_one_program_can_be_loaded_twice_at_once(worker: Worker, programs: Any) -> None:
    first, second = worker.load(programs.good), worker.load(programs.good)
    worker.unload(first.program_id)
    assert len(worker.run(second.program_id, "short", 2)) == 2


def test_resident_bytes_are_not_negative(worker: Worker, programs: Any) -> None:
    assert worker.load(programs.good).resident_bytes >= 0


def test_every_feed_has_its_seconds_of_binding_and_of_a_first_call(worker: Worker, programs: Any) -> None:
    loaded = worker.load(programs.good)
    names = {feed.name for feed in FEEDS}
    assert set(loaded.bind_s) == set(loaded.first_call_s) == names
    assert min(loaded.bind_s.values()) >= 0
    assert min(loaded.first_call_s.values()) > 0
    assert sum(loaded.bind_s.values()) + sum(loaded.first_call_s.values()) <= loaded.load_s


def test_the_peak_of_memory_never_falls(worker: Worker, programs: Any) -> None:
    first = worker.load(programs.good).peak_bytes
    assert 0 <= 0.99 * first <= worker.load(programs.other).peak_bytes


def test_says_who_runs_the_nodes(worker: Worker, programs: Any) -> None:
    providers = worker.load(programs.good).providers
    assert sum(providers.values()) >= 1


def test_says_how_much_memory_is_free(worker: Worker) -> None:
    assert worker.info.free_bytes > 2**20


def test_says_where_it_runs_and_how_fine_its_clock_is(device: Device, worker: Worker) -> None:
    assert worker.info.processors == () or len(worker.info.processors) >= device.info().threads
    assert 0 < worker.info.timer_step_s < 1e-3


def test_device_and_worker_tell_the_same(device: Device, worker: Worker) -> None:
    of_device, of_worker = device.info(), worker.info
    for name in ("hardware", "runtime", "threads", "cache_bytes"):
        assert getattr(of_device, name) == getattr(of_worker, name)


def test_its_environment_can_be_stored(worker: Worker) -> None:
    environment = dict(worker.info.environment)
    assert json.loads(json.dumps(environment)) == environment


@pytest.mark.parametrize(
    ("capability", "ask"),
    [
        ("attribution", lambda worker, program: isinstance(worker, AttributingWorker)),
        ("energy", lambda worker, program: isinstance(worker, MeteredWorker) and worker.energy_j() >= 0),
        ("environment", lambda worker, program: isinstance(worker, WatchedWorker) and bool(worker.environment())),
        ("forget", lambda worker, program: isinstance(worker, ForgettingWorker) and worker.forget(program) in (0, 1)),
    ],
)
def test_it_can_do_what_it_says_it_can(
    worker: Worker, programs: Any, capability: str, ask: Callable[[Worker, Program], bool]
) -> None:
    assert capability not in worker.info.capabilities or ask(worker, programs.good)


def test_refuses_to_run_what_was_unloaded(worker: Worker, programs: Any) -> None:
    loaded = worker.load(programs.good)
    worker.unload(loaded.program_id)
    with pytest.raises(ProgramError, match=f"no program '{loaded.program_id}' is loaded"):
        worker.run(loaded.program_id, "short", 1)


def test_refuses_to_unload_twice(worker: Worker, programs: Any) -> None:
    loaded = worker.load(programs.good)
    worker.unload(loaded.program_id)
    with pytest.raises(ProgramError, match=f"no program '{loaded.program_id}' is loaded"):
        worker.unload(loaded.program_id)


def test_refuses_a_feed_that_the_program_lacks(worker: Worker, programs: Any) -> None:
    loaded = worker.load(programs.good)
    with pytest.raises(ProgramError, match="has no feed 'sideways'"):
        worker.run(loaded.program_id, "sideways", 1)


def test_a_failing_program_is_named_as_the_culprit(worker: Worker, programs: Any) -> None:
    with pytest.raises(ProgramError) as caught:
        worker.run(worker.load(programs.failing).program_id, "short", 1)
    assert not isinstance(caught.value, WorkerDiedError)


def test_a_failing_program_leaves_the_others_served(worker: Worker, programs: Any) -> None:
    other = worker.load(programs.other)
    with pytest.raises(ProgramError):
        worker.run(worker.load(programs.failing).program_id, "short", 1)
    assert len(worker.run(other.program_id, "short", 3)) == 3


def test_restores_state_between_calls(worker: Worker, programs: Any) -> None:
    loaded = worker.load(programs.stateful)
    worker.run(loaded.program_id, "short", 3)
    assert len(worker.run(loaded.program_id, "short", 2)) == 2


def test_a_worker_serves_no_longer_than_its_context(device: Device, programs: Any) -> None:
    with device.open() as brief:
        loaded = brief.load(programs.good)
    with pytest.raises(WorkerDiedError):
        brief.run(loaded.program_id, "short", 1)


def test_a_stand_in_tells_of_itself_and_nothing_of_its_host(tmp_path: Path) -> None:
    facts = runpy.run_path(str(HERE / "stand_in.py"))
    host = Machine()
    device = stand_in(tmp_path)
    with device.open() as worker:
        info, told = device.info(), worker.info
    assert (info.hardware.partition(" (")[0], info.cache_bytes) == (facts["HARDWARE"], facts["CACHE_BYTES"])
    assert (told.free_bytes, info.threads) == (facts["FREE_BYTES"], 1)
    assert told.environment["large_pages"] == "never"
    assert told.environment["battery"] == {"capacity": "61", "status": None}
    assert {info.hardware, info.cache_bytes, told.free_bytes}.isdisjoint(
        {host.hardware(), host.cache_bytes(), host.free_bytes()}
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


def test_a_stand_in_has_no_adaptare_but_in_its_one_file(tmp_path: Path) -> None:
    transport = runpy.run_path(str(HERE / "stand_in.py"))["StandIn"](tmp_path, processors())
    code = "import numpy, onnxruntime\nimport adaptare"
    done = subprocess.run(
        [*transport.python, "-c", code], env=transport.environment, capture_output=True, text=True, check=False
    )
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'adaptare'"


def test_a_device_in_another_language_takes_less_than_60_lines() -> None:
    assert len(JAVASCRIPT_DEVICE.read_text(encoding="utf-8").splitlines()) < 60
