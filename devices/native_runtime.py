"""ONNX Runtime behind the agent in C, on this machine or on a device without Python."""

from adaptare.devices.agent_device import FIRST_CALLS, AgentDevice
from adaptare.devices.onnx_runtime import CPU, session_options
from adaptare.devices.transport import NATIVE, Transport


def ort_native(
    *,
    provider: str = CPU,
    threads: int | None = None,
    pin: bool = False,
    cores: str = "",
    spinning: bool = True,
    flush_denormals: bool = False,
    gap_s: float | None = None,
    first_call: str = FIRST_CALLS[0],
    timeout_s: float = 120.0,
    memory_bytes: int | None = None,
    bundle: str = "",
    transport: Transport | None = None,
) -> AgentDevice:
    """ONNX Runtime through its C API; nothing is installed on the device.

    Args:
        provider: See `ort`.
        threads: See `AgentDevice`.
        pin: See `AgentDevice`.
        cores: Processors to run on, as a hexadecimal mask like that of `taskset`: `f0` means processors 4 to 7, the
            large ones of many phones; default: all.
        spinning: See `ort`.
        flush_denormals: See `ort`.
        gap_s: See `AgentDevice`.
        first_call: See `AgentDevice`.
        timeout_s: See `AgentDevice`.
        memory_bytes: See `AgentDevice`.
        bundle: Folder made by `adaptare devices agent --build`; default: the latest one for the device's system in the
            user's cache, and on this machine one with the installed ONNX Runtime.
        transport: See `AgentDevice`.
    """
    options, spelled, described = session_options(provider, spinning, flush_denormals)
    return AgentDevice(
        name="ort-native",
        runtime=f"{NATIVE}:{bundle}",
        options=options,
        spelled={**spelled, **({"bundle": bundle} if bundle else {})},
        described={**described, "agent": "native"},
        threads=threads,
        pin=pin,
        cores=cores,
        gap_s=gap_s,
        first_call=first_call,
        timeout_s=timeout_s,
        memory_bytes=memory_bytes,
        transport=transport,
    )
