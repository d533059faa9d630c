"""ONNX Runtime, with any execution provider of the installed package."""

from contextlib import AbstractContextManager
from functools import partial

from adaptare.devices.agent_device import FIRST_CALLS, AgentDevice, yes_or_no
from adaptare.devices.contracts import DeviceInfo, Worker
from adaptare.devices.errors import InputError
from adaptare.devices.transport import Transport

RUNTIME = "adaptare.devices.agent.ort_runtime:OrtRuntime"
CPU = "CPUExecutionProvider"


class OnnxRuntime:
    """Runs ONNX files in a separate process, each as a plain `InferenceSession` with bound inputs.

    Args:
        provider: Full name of the execution provider. It must run at least one node of every loaded program; nodes that
            it does not support run on the processor, and are counted in `Loaded.providers`.
        threads: See `AgentDevice`.
        pin: See `AgentDevice`.
        spinning: Lets threads busy-wait for the next operator, as is the library's default.
        flush_denormals: Treats denormal numbers as zero.
        gap_s: See `AgentDevice`.
        first_call: See `AgentDevice`.
        timeout_s: See `AgentDevice`.
        memory_bytes: See `AgentDevice`.
        transport: See `AgentDevice`.
    """

    def __init__(
        self,
        *,
        provider: str = CPU,
        threads: int | None = None,
        pin: bool = False,
        spinning: bool = True,
        flush_denormals: bool = False,
        gap_s: float | None = None,
        first_call: str = FIRST_CALLS[0],
        timeout_s: float = 120.0,
        memory_bytes: int | None = None,
        transport: Transport | None = None,
    ) -> None:
        options, spelled, described = session_options(provider, spinning, flush_denormals)
        self._device = AgentDevice(
            name="ort-cpu" if provider == CPU else "ort",
            runtime=RUNTIME,
            options=options,
            spelled=spelled,
            described=described,
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

    def capacity_bytes(self) -> int:
        """See `Device.capacity_bytes`."""
        return self._device.capacity_bytes()

    def open(self) -> AbstractContextManager[Worker]:
        """See `Device.open`."""
        return self._device.open()


def session_options(
    provider: str, spinning: bool, flush_denormals: bool
) -> tuple[dict[str, object], dict[str, str], dict[str, str]]:
    """Options of sessions: for the agent, those that are not defaults, and all of them; see `AgentDevice`."""
    if not provider:
        raise InputError(f"provider must name an execution provider, for example {CPU}")
    unusual = {"provider": provider} if provider != CPU else {}
    unusual |= {} if spinning else {"spinning": "no"}
    unusual |= {"flush_denormals": "yes"} if flush_denormals else {}
    described = {
        "denormals": "flush" if flush_denormals else "keep",
        "provider": provider,
        "spinning": yes_or_no(spinning),
    }
    return {"provider": provider, "spinning": spinning, "flush_denormals": flush_denormals}, unusual, described


ort_cpu = partial(OnnxRuntime, provider=CPU)
"""`OnnxRuntime` with the kernels of the package itself, which every build has."""
