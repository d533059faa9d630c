"""What every runtime on this machine's own processor shares: threads, processors, and the worker process."""

import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from adaptare.devices.agent_worker import AgentWorker, opened
from adaptare.devices.errors import InputError, MissingPackageError
from adaptare.devices.host import allowed_processors, physical_cores, worker_processors

# How the C library of Linux is told so; others do not read it.
LARGE_PAGES = "glibc.malloc.hugetlb=1"


def require_package(name: str, *, extra: str) -> None:
    """Raises `MissingPackageError` unless the package can be imported."""
    if importlib.util.find_spec(name) is None:
        raise MissingPackageError(f"{name} is not installed; install it with: pip install 'adaptare[{extra}]'")


class LocalWorkers:
    """Starts agents on this machine, each in a process of its own.

    Args:
        threads: Threads inside one operator; None: the physical cores this process may use.
        pin: Whether an agent stays on as many processors as it has threads.
        timeout_s: How long one load or run may take before it counts as hung.
        memory_bytes: Limit of an agent's memory; None: what is free when it opens.
    """

    def __init__(self, *, threads: int | None, pin: bool, timeout_s: float, memory_bytes: int | None) -> None:
        available = len(allowed_processors())
        if threads is not None and not 1 <= threads <= available:
            raise InputError(f"threads must be 1 to {available} here, not {threads}")
        if timeout_s <= 0:
            raise InputError(f"timeout_s must be above 0, not {timeout_s}")
        if memory_bytes is not None and memory_bytes < 1:
            raise InputError(f"memory_bytes must be at least 1, not {memory_bytes}")
        self.threads = threads or physical_cores()
        self.pin = pin
        self._timeout_s = timeout_s
        self._memory_bytes = memory_bytes

    @contextmanager
    def open(self, runtime: str, options: Mapping[str, object]) -> Iterator[AgentWorker]:
        """An agent until the context ends.

        Args:
            runtime: Module with which the agent loads programs.
            options: Given to its `setup`, together with the number of threads.
        """
        command = [sys.executable, "-m", "adaptare.devices.agent", runtime]
        worker = AgentWorker(command, environment=worker_environment(self.threads), timeout_s=self._timeout_s)
        with opened(worker):
            processors = worker_processors(self.threads) if self.pin else []
            worker.hello(
                processors=processors,
                options={"threads": self.threads, **options},
                memory_bytes=self._memory_bytes or 0,
            )
            yield worker


def worker_environment(threads: int) -> dict[str, str]:
    """This process's environment, with so many threads for every library, and without network or telemetry.

    What programs allocate lies in large pages, where the system has them and nobody said otherwise: small ones come
    from all over the memory, by which equal programs mostly differ more (`aa_real_spread` of benchmarks/profiling.py).
    """
    return {
        "GLIBC_TUNABLES": LARGE_PAGES,
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "ORT_DISABLE_TELEMETRY": "1",
        "PYTHONUNBUFFERED": "1",
    }


def yes_or_no(value: bool) -> str:
    """As spellings of devices have it."""
    return "yes" if value else "no"
