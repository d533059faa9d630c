"""Interface of the worker to an accelerator of torch; tests replace the class."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from importlib import metadata
from typing import Any

from adaptare.devices.agent.runtime import AbsentError

# Calls before a capture, which allocate what the captured one reuses.
CALLS_BEFORE_CAPTURE = 3
BURST_SIZE = 2048
FOUND_AT = "https://pytorch.org/get-started/locally"
# Errors after which every further call fails, unless memory ran out.
LOST = ("CUDA error", "HIP error", "AcceleratorError", "UR error")


class CaptureError(RuntimeError):
    """A call cannot be captured as a graph; everything else still runs."""


class Accelerator:
    """One accelerator of torch, by the module that torch has for its kind.

    Args:
        kind: `cuda` (NVIDIA, and AMD in builds for ROCm), `xpu` (Intel) or `mps` (Apple).
        index: Number among those that torch can see.

    Raises:
        AbsentError: There is none, with the line that helps.
    """

    def __init__(self, kind: str, index: int) -> None:
        _check_platform(kind)
        import torch

        self._torch: Any = torch
        self._library: Any = getattr(torch, kind)
        self._check_present(kind, index)
        self._kind = kind
        self.device = kind if kind == "mps" else f"{kind}:{index}"
        if kind != "mps":
            self._library.set_device(index)  # events, streams and memory figures are those of the current device
        self._other = self._square = torch.empty(0)

    def _check_present(self, kind: str, index: int) -> None:
        torch, library = self._torch, self._library
        available = torch.backends.mps.is_available() if kind == "mps" else library.is_available()
        count = library.device_count() if available else 0
        if not count and kind == "cuda" and not torch.backends.cuda.is_built():
            raise AbsentError(_without(kind, torch.__version__))
        if not count:
            look = {"cuda": "nvidia-smi (or rocm-smi)", "xpu": "sycl-ls", "mps": "the system report"}[kind]
            raise AbsentError(
                f"torch {torch.__version__} finds no {kind} device; {look} must list one, with a driver that is new "
                f"enough for this build of torch ({FOUND_AT} lists others)"
            )
        if not 0 <= index < count:
            raise ValueError(f"index must be 0 to {count - 1} here, not {index}")

    def name(self) -> str:
        """Model of the accelerator, and its architecture."""
        if self._kind == "mps":
            return "Apple GPU (mps)"
        properties = self._library.get_device_properties()
        if self._kind == "xpu":
            return f"{properties.name} (xpu)"
        own = getattr(properties, "gcnArchName", "") if self._torch.version.hip else ""
        return f"{properties.name} ({own or f'sm_{properties.major}{properties.minor}'})"

    def cache_bytes(self) -> int:
        """Size of its last-level cache; 0 if torch does not report it."""
        properties = None if self._kind == "mps" else self._library.get_device_properties()
        sizes = [getattr(properties, name, 0) for name in ("L2_cache_size", "last_level_cache_size")]
        return max(sizes)

    def facts(self) -> dict[str, Any]:
        """State of the accelerator that may change latency, as far as torch reports it."""
        facts = {"libraries": {name: getattr(self._torch.version, name, None) for name in ("cuda", "hip", "xpu")}}
        for name, ask in (("clock_mhz", "clock_rate"), ("temperature_c", "temperature"), ("power_mw", "power_draw")):
            # The packages that read these are optional, and some accelerators report nothing.
            with contextlib.suppress(Exception):
                facts[name] = getattr(self._library, ask)()
        return facts

    def free_bytes(self) -> int:
        """Memory available to programs, including the reserve of this process."""
        if self._kind == "mps":
            return int(self._library.recommended_max_memory() - self._library.driver_allocated_memory())
        reserved, held = self._library.memory_reserved(), self._library.memory_allocated()
        try:
            free = self._library.mem_get_info()[0]
        except RuntimeError:  # some drivers of integrated GPUs do not report it
            free = self._library.get_device_properties().total_memory - reserved
        return int(free + reserved - held)

    def held_bytes(self) -> int:
        """Memory of the tensors of this process."""
        mps = self._kind == "mps"
        return int(self._library.current_allocated_memory() if mps else self._library.memory_allocated())

    def peak_bytes(self) -> int:
        """Largest memory that this process has taken."""
        mps = self._kind == "mps"
        return int(self._library.driver_allocated_memory() if mps else self._library.max_memory_reserved())

    def limit(self, limit_bytes: int) -> None:
        """Makes allocations beyond the limit fail."""
        mps = self._kind == "mps"
        whole = self._library.recommended_max_memory() if mps else self._library.get_device_properties().total_memory
        self._library.set_per_process_memory_fraction(min(1.0, limit_bytes / whole))

    def release(self) -> None:
        """Returns unused memory to the device."""
        self._library.empty_cache()

    def synchronise(self) -> None:
        """Waits until everything issued has finished."""
        self._library.synchronize()

    def event(self) -> Any:
        """An event with `record()` and `elapsed_time(later)`, which is in milliseconds."""
        return self._library.Event(enable_timing=True)

    def burst(self) -> None:
        """Issues some milliseconds of work."""
        if not self._square.numel():
            self._square = self._torch.ones(BURST_SIZE, BURST_SIZE, device=self.device)
        self._torch.mm(self._square, self._square)

    def overwrite(self, size: int) -> None:
        """Writes `size` bytes of memory that no program uses, which evicts as many from the caches."""
        if size > self._other.numel():
            self._other = self._torch.empty(size, dtype=self._torch.uint8, device=self.device)
        self._other[:size].fill_(1)

    def captured(self, call: Callable[[], Any], restore: Callable[[], None]) -> Callable[[], Any]:
        """The replay of a call as one graph of kernels, which returns the output of the captured call.

        All that the call reads must stay where it is, and it may not wait for a result.

        Raises:
            CaptureError: The call cannot be captured.
        """
        library = self._library
        graph = library.CUDAGraph()
        # Handles of libraries are made for each stream, by its first call, and cannot be made during a capture.
        stream = library.Stream()
        stream.wait_stream(library.current_stream())
        with library.stream(stream):
            for _ in range(CALLS_BEFORE_CAPTURE):
                restore()
                call()
        library.current_stream().wait_stream(stream)
        restore()
        try:
            with library.graph(graph, stream=stream):
                output = call()
        except Exception as error:
            raise CaptureError(f"the call cannot be captured as a graph: {error}; leave graphs=yes out") from error

        def replay() -> Any:
            graph.replay()
            return output

        return replay

    def lost(self, error: BaseException) -> bool:
        """True if the accelerator no longer answers this process after an error, such as an illegal access."""
        message = f"{type(error).__name__}: {error}"
        survived = (self._torch.OutOfMemoryError, CaptureError)
        return not isinstance(error, survived) and any(words in message for words in LOST)


def _check_platform(kind: str) -> None:
    """Raises `AbsentError` where torch need not be imported to see that it has no such accelerator."""
    if kind == "mps" and sys.platform != "darwin":
        raise AbsentError(f"mps is the GPU of Apple's computers, and this is {sys.platform}; choose another device")
    with contextlib.suppress(metadata.PackageNotFoundError):
        version = metadata.version("torch")
        if kind != "mps" and version.endswith("+cpu"):
            raise AbsentError(_without(kind, version))


def _without(kind: str, version: str) -> str:
    return f"torch {version} is built without {kind}; install a build that has it, by the line that {FOUND_AT} gives"
