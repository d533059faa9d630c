"""PyTorch, eager, on this machine's processor."""

from contextlib import AbstractContextManager

from adaptare.devices.agent_device import FIRST_CALLS, AgentDevice
from adaptare.devices.contracts import DeviceInfo, Worker
from adaptare.devices.transport import Transport

RUNTIME = "adaptare.devices.agent.torch_runtime:TorchRuntime"


class TorchCpu:
    """Runs `module:factory` programs in a process of their own; see `AgentDevice` for the options."""

    def __init__(
        self,
        *,
        threads: int | None = None,
        pin: bool = False,
        gap_s: float | None = None,
        first_call: str = FIRST_CALLS[0],
        timeout_s: float = 120.0,
        memory_bytes: int | None = None,
        transport: Transport | None = None,
    ) -> None:
        self._device = AgentDevice(
            name="torch-cpu",
            runtime=RUNTIME,
            options={},
            spelled={},
            described={},
            threads=threads,
            pin=pin,
            gap_s=gap_s,
            first_call=first_call,
            timeout_s=timeout_s,
            memory_bytes=memory_bytes,
            transport=transport,
        )

    def info(self) -> DeviceInfo:
        """See `Device.info`."""
        return self._device.info()

    def open(self) -> AbstractContextManager[Worker]:
        """See `Device.open`."""
        return self._device.open()
