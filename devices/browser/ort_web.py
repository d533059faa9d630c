"""ONNX Runtime Web, in a page."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from adaptare.core import InputError
from adaptare.devices.agent_device import AgentDevice
from adaptare.devices.browser.checked_worker import CheckedWorker, HostOutputs
from adaptare.devices.browser.transport import RUNTIME, BrowserTransport
from adaptare.devices.contracts import DeviceInfo, Worker
from adaptare.devices.transport import Transport

BACKENDS = ("wasm", "webgpu")


class OrtWeb:
    """Runs ONNX files in a page, each as a plain `InferenceSession`; every call copies its inputs, as in applications.

    Each worker has a WebAssembly memory of its own, of at most 4 GiB. The clock of browsers has coarse steps: calls
    shorter than 100 steps are timed together, and each is given their mean. Before a program is timed, its outputs are
    compared with those of ONNX Runtime on this machine.

    Args:
        threads: Threads inside one operator; default: that of the library, half of the processors, at most 4. A page
            that is not isolated has one.
        backend: `wasm`, which runs on the processor, or `webgpu`.
        memory_bytes: Limit of the WebAssembly memory.
        transport: Connection to the page.
    """

    def __init__(
        self,
        *,
        threads: int | None = None,
        backend: str = BACKENDS[0],
        gap_s: float | None = None,
        timeout_s: float = 120.0,
        memory_bytes: int | None = None,
        transport: Transport | None = None,
    ) -> None:
        if not isinstance(transport, BrowserTransport):
            raise InputError("ort-web runs in a page: start adaptare devices serve, and name the device browser:NAME")
        if backend not in BACKENDS:
            raise InputError(f"backend must be one of {', '.join(BACKENDS)}, not {backend!r}")
        self._device = AgentDevice(
            name=transport.usual,
            runtime=RUNTIME,
            options={"backend": backend},
            spelled={"backend": backend} if backend != BACKENDS[0] else {},
            described={"backend": backend, "timed_steps": "100"},
            threads=threads,
            gap_s=gap_s,
            timeout_s=timeout_s,
            memory_bytes=memory_bytes,
            transport=transport,
        )
        self._outputs: dict[str, Mapping[str, Sequence[float]]] = {}

    def __repr__(self) -> str:
        return repr(self._device)

    def info(self) -> DeviceInfo:
        return self._device.info()

    def capacity_bytes(self) -> int:
        return self._device.capacity_bytes()

    @contextmanager
    def open(self) -> Iterator[Worker]:
        with self._device.open() as worker, ExitStack() as stack:
            yield CheckedWorker(worker, HostOutputs(self._outputs, stack))
