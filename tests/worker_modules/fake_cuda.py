"""An accelerator that computes on the processor, with all that a worker asks of a real one.

A captured call is replayed as a graph is: the same kernels on the same memory, and no Python.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from adaptare.devices.agent.accelerator import Accelerator, CaptureError
from adaptare.devices.agent.torch_runtime import TorchRuntime

CACHE_BYTES = 4096
FREE_BYTES = 3 * 2**30
READ_OFF, BROUGHT = torch.ops.aten._local_scalar_dense.default, torch.ops.aten.lift_fresh.default


class Event:
    """A moment; nothing is issued ahead here."""

    def record(self) -> None:
        self.at_s = time.perf_counter()

    def elapsed_time(self, later: "Event") -> float:
        return 1e3 * (later.at_s - self.at_s)


class Recorded(TorchDispatchMode):
    """Kernels with the memory that they read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # A capture can neither read a number off the device nor make a tensor of numbers of the host.
        if func is READ_OFF or (func is BROUGHT and args[0].numel()):
            raise RuntimeError(f"operation not permitted when stream is capturing: {func}")
        result = func(*args, **(kwargs or {}))
        self.kernels.append((func, args, kwargs or {}, result))
        return result

    def replay(self) -> None:
        for func, args, kwargs, result in self.kernels:
            for fresh, kept in zip(tensors(func(*args, **kwargs)), tensors(result), strict=True):
                if fresh.data_ptr() != kept.data_ptr():
                    kept.copy_(fresh)


def tensors(result: Any) -> list[torch.Tensor]:
    """All tensors of a result."""
    return [each for each in (result if isinstance(result, tuple | list) else [result]) if torch.is_tensor(each)]


class FakeAccelerator:
    """See `Accelerator`."""

    def __init__(self, kind: str, index: int) -> None:
        if index:
            raise ValueError(f"index must be 0 to 0 here, not {index}")
        self.device = "cpu"
        self.log: list[str] = []

    def name(self) -> str:
        return "Paper GPU (sheet_1)"

    def cache_bytes(self) -> int:
        return CACHE_BYTES

    def facts(self) -> dict[str, Any]:
        return {"clock_mhz": 1}

    def free_bytes(self) -> int:
        return FREE_BYTES

    def held_bytes(self) -> int:
        return 0

    def peak_bytes(self) -> int:
        return 0

    def limit(self, limit_bytes: int) -> None:
        self.log.append(f"limit {limit_bytes}")

    def release(self) -> None:
        self.log.append("release")

    def synchronise(self) -> None:
        self.log.append("wait")

    def event(self) -> Event:
        return Event()

    def burst(self) -> None:
        self.log.append("burst")

    def overwrite(self, size: int) -> None:
        self.log.append(f"overwrite {size}")

    def captured(self, call: Callable[[], Any], restore: Callable[[], None]) -> Callable[[], Any]:
        restore()
        call()
        restore()
        recorded = Recorded()
        try:
            with recorded:
                output = call()
        except Exception as error:
            raise CaptureError(f"the call cannot be captured as a graph: {error}; leave graphs=yes out") from error

        def replay() -> Any:
            with torch.inference_mode():
                recorded.replay()
            return output

        return replay

    def lost(self, error: BaseException) -> bool:
        return Accelerator.lost(self, error)  # type: ignore[arg-type]

    _torch = torch


TorchRuntime.accelerators = FakeAccelerator
