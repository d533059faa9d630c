"""PyTorch, eager, on this machine's processor."""

import importlib.metadata
from collections.abc import Iterator
from contextlib import contextmanager

from adaptare.devices.contracts import DeviceInfo, Worker
from adaptare.devices.host import hardware_name
from adaptare.devices.local_worker import LocalWorkers, require_package, yes_or_no


class TorchCpu:
    """Runs `module:factory` programs in a process of their own, on pinned threads.

    Args:
        threads: Threads inside one operator; default: the physical cores this process may use.
        pin: Whether the process stays on as many processors as it has threads.
        timeout_s: How long one load or run may take before it counts as hung.
        memory_bytes: Limit of the worker's memory; default: what is free when it opens.
    """

    def __init__(
        self,
        *,
        threads: int | None = None,
        pin: bool = True,
        timeout_s: float = 120.0,
        memory_bytes: int | None = None,
    ) -> None:
        self._workers = LocalWorkers(threads=threads, pin=pin, timeout_s=timeout_s, memory_bytes=memory_bytes)
        require_package("torch", extra="torch")

    def info(self) -> DeviceInfo:
        """See `Device.info`."""
        threads, pin = self._workers.threads, self._workers.pin
        return DeviceInfo(
            device=f"torch-cpu:threads={threads}" + ("" if pin else ",pin=no"),
            hardware=hardware_name(),
            runtime=f"torch {importlib.metadata.version('torch')}",
            threads=threads,
            options=(f"pin={yes_or_no(pin)}",),
        )

    @contextmanager
    def open(self) -> Iterator[Worker]:
        """See `Device.open`."""
        with self._workers.open("adaptare.devices.torch_runtime", {}) as worker:
            yield worker
