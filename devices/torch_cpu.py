"""PyTorch, eager, on this machine's processor."""

import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from adaptare.devices.agent_worker import AgentWorker, opened
from adaptare.devices.contracts import DeviceInfo, Worker
from adaptare.devices.errors import InputError, MissingPackageError
from adaptare.devices.host import allowed_processors, hardware_name, physical_cores


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
        available = len(allowed_processors())
        if threads is not None and not 1 <= threads <= available:
            raise InputError(f"threads must be 1 to {available} here, not {threads}")
        if timeout_s <= 0:
            raise InputError(f"timeout_s must be above 0, not {timeout_s}")
        if importlib.util.find_spec("torch") is None:
            raise MissingPackageError("torch is not installed; install it with: pip install 'adaptare[torch]'")
        self._threads = threads or physical_cores()
        self._pin = pin
        self._timeout_s = timeout_s
        self._memory_bytes = memory_bytes

    def info(self) -> DeviceInfo:
        """See `Device.info`."""
        return DeviceInfo(
            device=f"torch-cpu:threads={self._threads}" + ("" if self._pin else ",pin=no"),
            hardware=hardware_name(),
            runtime=f"torch {importlib.metadata.version('torch')}",
            threads=self._threads,
            options=(f"pin={'yes' if self._pin else 'no'}",),
        )

    @contextmanager
    def open(self) -> Iterator[Worker]:
        """See `Device.open`."""
        threads = str(self._threads)
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "HF_HUB_OFFLINE": "1",
            "ORT_DISABLE_TELEMETRY": "1",
            "PYTHONUNBUFFERED": "1",
        }
        command = [sys.executable, "-m", "adaptare.devices.agent", "adaptare.devices.torch_runtime"]
        worker = AgentWorker(command, environment=environment, timeout_s=self._timeout_s)
        with opened(worker):
            # The first processor tends to serve interrupts, so the last ones are taken.
            processors = allowed_processors()[-self._threads :] if self._pin else []
            worker.hello(
                processors=processors,
                options={"threads": self._threads},
                memory_bytes=self._memory_bytes or 0,
            )
            yield worker
