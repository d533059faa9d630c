"""ONNX Runtime on this machine, with any execution provider that the installed package has."""

import importlib.metadata
from collections.abc import Iterator
from contextlib import contextmanager

from adaptare.devices.contracts import DeviceInfo, Worker
from adaptare.devices.errors import InputError
from adaptare.devices.host import hardware_name
from adaptare.devices.local_worker import LocalWorkers, require_package, yes_or_no
from adaptare.devices.ort_runtime import CPU, available_providers


class OnnxRuntime:
    """Runs ONNX files in a process of their own; inputs and outputs are bound before anything is timed.

    Args:
        provider: Execution provider, by its full name. It must run at least one node of every program that is
            loaded; what it cannot run is left to the processor and counted in `Loaded.providers`.
        threads: Threads inside one operator; default: the physical cores this process may use.
        pin: Whether the process stays on as many processors as it has threads.
        spinning: Whether threads wait for the next operator busily. They stop when a call ends, so as not to disturb
            other programs, and have to be woken for the next.
        flush_denormals: Whether numbers too small for full precision count as zero.
        timeout_s: How long one load or run may take before it counts as hung.
        memory_bytes: Limit of the worker's memory; default: what is free when it opens.
    """

    def __init__(
        self,
        *,
        provider: str = CPU,
        threads: int | None = None,
        pin: bool = True,
        spinning: bool = True,
        flush_denormals: bool = False,
        timeout_s: float = 120.0,
        memory_bytes: int | None = None,
    ) -> None:
        if not provider:
            raise InputError(f"provider must name an execution provider, for example {CPU}")
        self._workers = LocalWorkers(threads=threads, pin=pin, timeout_s=timeout_s, memory_bytes=memory_bytes)
        require_package("onnxruntime", extra="onnx")
        if provider != CPU and provider not in (available := available_providers()):
            raise InputError(
                f"provider {provider!r} is not in this build of onnxruntime; it has {', '.join(available)}"
            )
        self._provider = provider
        self._spinning = spinning
        self._flush_denormals = flush_denormals

    def info(self) -> DeviceInfo:
        """See `Device.info`."""
        threads, pin = self._workers.threads, self._workers.pin
        return DeviceInfo(
            device=self._spelling(),
            hardware=hardware_name(),
            runtime=f"onnxruntime {onnxruntime_version()}",
            threads=threads,
            options=(
                f"denormals={'flush' if self._flush_denormals else 'keep'}",
                f"pin={yes_or_no(pin)}",
                f"provider={self._provider}",
                f"spinning={yes_or_no(self._spinning)}",
            ),
        )

    @contextmanager
    def open(self) -> Iterator[Worker]:
        """See `Device.open`. Raises `DeviceError` too if the installed package lacks the provider."""
        options = {
            "provider": self._provider,
            "spinning": self._spinning,
            "flush_denormals": self._flush_denormals,
        }
        with self._workers.open("adaptare.devices.ort_runtime", options) as worker:
            yield worker

    def _spelling(self) -> str:
        runtime = "ort-cpu:" if self._provider == CPU else f"ort:provider={self._provider},"
        unusual = {
            ",pin=no": not self._workers.pin,
            ",spinning=no": not self._spinning,
            ",flush_denormals=yes": self._flush_denormals,
        }
        return f"{runtime}threads={self._workers.threads}" + "".join(text for text, given in unusual.items() if given)


def ort_cpu(
    *,
    threads: int | None = None,
    pin: bool = True,
    spinning: bool = True,
    flush_denormals: bool = False,
    timeout_s: float = 120.0,
    memory_bytes: int | None = None,
) -> OnnxRuntime:
    """`OnnxRuntime` with the kernels of the package itself, which every build has."""
    return OnnxRuntime(
        provider=CPU,
        threads=threads,
        pin=pin,
        spinning=spinning,
        flush_denormals=flush_denormals,
        timeout_s=timeout_s,
        memory_bytes=memory_bytes,
    )


def onnxruntime_version() -> str:
    """Of whichever distribution brings the package: builds for other hardware have other names."""
    try:
        return importlib.metadata.version("onnxruntime")
    except importlib.metadata.PackageNotFoundError:
        return importlib.metadata.version(importlib.metadata.packages_distributions()["onnxruntime"][0])
