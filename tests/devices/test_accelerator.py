"""What is asked of torch's accelerators: by names that torch has, in the order that its documentation gives."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from adaptare.core import DeviceError, InputError
from adaptare.devices import connect
from adaptare.devices.agent import accelerator
from adaptare.devices.agent.accelerator import Accelerator, CaptureError
from adaptare.devices.agent.runtime import AbsentError
from adaptare.devices.torch_device import torch_backend

USED = {
    "cuda": (
        *("is_available", "device_count", "set_device", "get_device_properties", "memory_reserved", "memory_allocated"),
        *("mem_get_info", "max_memory_reserved", "set_per_process_memory_fraction", "empty_cache", "synchronize"),
        *("Event", "CUDAGraph", "Stream", "current_stream", "stream", "graph", "clock_rate", "temperature"),
    ),
    "xpu": (
        *("is_available", "device_count", "set_device", "get_device_properties", "memory_reserved", "memory_allocated"),
        *("mem_get_info", "max_memory_reserved", "set_per_process_memory_fraction", "empty_cache", "synchronize"),
        "Event",
    ),
    "mps": (
        *("device_count", "recommended_max_memory", "driver_allocated_memory", "current_allocated_memory"),
        *("set_per_process_memory_fraction", "empty_cache", "synchronize"),
    ),
}


class Library:
    """Stands for `torch.cuda`: writes down what it is asked, in order."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def is_available(self) -> bool:
        return True

    def device_count(self) -> int:
        return 2

    def set_device(self, index: int) -> None:
        self.log.append(f"device {index}")

    def get_device_properties(self) -> SimpleNamespace:
        return SimpleNamespace(name="Toy", major=9, minor=0, L2_cache_size=50, total_memory=1000)

    def mem_get_info(self) -> tuple[int, int]:
        return 600, 1000

    def memory_reserved(self) -> int:
        return 300

    def memory_allocated(self) -> int:
        return 100

    def set_per_process_memory_fraction(self, fraction: float) -> None:
        self.log.append(f"fraction {fraction}")

    def Event(self, enable_timing: bool) -> SimpleNamespace:
        return SimpleNamespace(timing=enable_timing)

    def current_stream(self) -> SimpleNamespace:
        return SimpleNamespace(name="main", wait_stream=lambda other: self.log.append(f"main waits for {other.name}"))

    def Stream(self) -> SimpleNamespace:
        return SimpleNamespace(name="side", wait_stream=lambda other: self.log.append(f"side waits for {other.name}"))

    def CUDAGraph(self) -> SimpleNamespace:
        return SimpleNamespace(replay=lambda: self.log.append("replay"))

    @contextmanager
    def stream(self, stream: SimpleNamespace) -> Iterator[None]:
        self.log.append(f"on {stream.name}")
        yield
        self.log.append("off")

    @contextmanager
    def graph(self, graph: SimpleNamespace, stream: SimpleNamespace) -> Iterator[None]:
        self.log.append(f"capture on {stream.name}")
        yield
        self.log.append("captured")


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    """`torch.cuda` of a machine with two GPUs."""
    made = Library()
    monkeypatch.setattr(torch, "cuda", made)
    monkeypatch.setattr(accelerator, "_check_platform", lambda kind: None)
    return made


@pytest.mark.parametrize("kind", USED)
def test_every_name_is_one_of_torch(kind: str) -> None:
    assert [name for name in USED[kind] if not hasattr(getattr(torch, kind), name)] == []


def test_events_take_the_argument_that_makes_them_tell_the_time() -> None:
    from torch.mps.event import Event as MpsEvent

    for event in (torch.cuda.Event.__new__, torch.xpu.Event.__new__, MpsEvent):
        assert "enable_timing" in inspect.signature(event).parameters
    assert "stream" in inspect.signature(torch.cuda.graph).parameters


def test_the_current_device_is_the_one_that_was_asked_for_and_its_memory_has_a_limit(library: Library) -> None:
    made = Accelerator("cuda", 1)
    made.limit(250)
    assert made.device == "cuda:1"
    assert library.log == ["device 1", "fraction 0.25"]


def test_says_who_it_is(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "hip", None, raising=False)
    made = Accelerator("cuda", 0)
    assert (made.name(), made.cache_bytes(), made.free_bytes()) == ("Toy (sm_90)", 50, 800)


def test_a_call_is_captured_after_calls_on_the_stream_of_the_capture(library: Library) -> None:
    calls: list[str] = library.log
    made = Accelerator("cuda", 0)
    calls.clear()
    replay = made.captured(lambda: calls.append("call") or "output", lambda: calls.append("restore"))
    before = ["side waits for main", "on side", *["restore", "call"] * 3, "off", "main waits for side", "restore"]
    assert calls == [*before, "capture on side", "call", "captured"]
    calls.clear()
    assert replay() == "output"
    assert calls == ["replay"]


def test_a_call_that_cannot_be_captured_is_a_failure_of_its_program_alone(library: Library) -> None:
    def call() -> None:
        if library.log[-1].startswith("capture"):
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    made = Accelerator("cuda", 0)
    with pytest.raises(CaptureError, match=r"cannot be captured as a graph: .*; leave graphs=yes out") as caught:
        made.captured(call, lambda: None)
    assert not made.lost(caught.value)


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), False),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), True),
    ],
)
def test_knows_after_which_errors_nothing_runs_any_more(library: Library, error: Exception, lost: bool) -> None:
    assert Accelerator("cuda", 0).lost(error) is lost


@pytest.mark.parametrize("index", [-1, 2])
def test_an_index_beyond_those_there_are_is_refused(library: Library, index: int) -> None:
    with pytest.raises(ValueError, match=f"index must be 0 to 1 here, not {index}"):
        Accelerator("cuda", index)


def test_without_a_driver_the_command_that_must_list_it_is_named(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    with pytest.raises(AbsentError, match=r"finds no cuda device; nvidia-smi .* must list one, with a driver"):
        Accelerator("cuda", 0)


@pytest.mark.parametrize(
    ("version", "kind", "words"),
    [
        ("2.13.0+cpu", "cuda", r"torch 2.13.0\+cpu is built without cuda; install a build that has it"),
        ("2.13.0", "mps", "mps is the GPU of Apple's computers, and this is linux; choose another device"),
    ],
)
def test_a_build_without_it_is_told_before_torch_is_imported(
    monkeypatch: pytest.MonkeyPatch, version: str, kind: str, words: str
) -> None:
    monkeypatch.setattr(accelerator.metadata, "version", lambda name: version)
    monkeypatch.setattr(accelerator.sys, "platform", "linux")
    with pytest.raises(AbsentError, match=words):
        accelerator._check_platform(kind)


def test_only_cuda_has_graphs() -> None:
    with pytest.raises(InputError, match="graphs are those of CUDA; torch-mps has none"):
        torch_backend(kind="mps", graphs=True)
    with pytest.raises(InputError, match="option 'graphs=yes' is unknown"):
        connect("torch-cpu:graphs=yes")


def test_a_compiler_that_is_missing_is_told_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match=r"compile=yes needs a C\+\+ compiler, .*: apt install g\+\+"):
        connect("torch-cpu:compile=yes").info()
