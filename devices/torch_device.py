"""PyTorch, on the processor of this machine or on an accelerator."""

from functools import partial
from typing import Literal

from adaptare.core import InputError
from adaptare.devices.agent_device import FIRST_CALLS, AgentDevice, yes_or_no
from adaptare.devices.transport import Transport

RUNTIME = "adaptare.devices.agent.torch_runtime:TorchRuntime"
TIMEOUT_S = 120.0
# Compiling takes minutes where a call takes milliseconds.
COMPILE_TIMEOUT_S = 1800.0


def torch_backend(
    *,
    kind: Literal["cpu", "cuda", "mps", "xpu"],
    index: int = 0,
    graphs: bool = False,
    compile: bool = False,  # noqa: A002 (the name of the option)
    threads: int | None = None,
    pin: bool = False,
    gap_s: float | None = None,
    first_call: str = FIRST_CALLS[0],
    timeout_s: float | None = None,
    memory_bytes: int | None = None,
    transport: Transport | None = None,
) -> AgentDevice:
    """Device that runs `module:factory` programs in a separate process, eager by default.

    Calls on an accelerator are timed by events on it, from idle to the end of their last kernel; its clocks are raised
    before. None of the accelerators has been tried on hardware yet.

    Args:
        kind: `cpu`, or the module of torch for the accelerator: `cuda`, `mps` or `xpu`.
        index: Number of the accelerator among those that torch can see.
        graphs: Captures each call as a CUDA graph, and times its replay.
        compile: Compiles each program as a whole by `torch.compile`, for the shapes of each feed.
        threads: See `AgentDevice`.
        pin: See `AgentDevice`.
        gap_s: See `AgentDevice`; none on an accelerator.
        first_call: See `AgentDevice`.
        timeout_s: See `AgentDevice`; default: 120, and 1800 where programs are compiled.
        memory_bytes: See `AgentDevice`; of the accelerator, if there is one.
        transport: See `AgentDevice`.
    """
    if graphs and kind != "cuda":
        raise InputError(f"graphs are those of CUDA; torch-{kind} has none")
    chosen = {"index": str(index)} if index else {}
    chosen |= {name: yes_or_no(True) for name, value in (("graphs", graphs), ("compile", compile)) if value}
    return AgentDevice(
        name=f"torch-{kind}",
        runtime=RUNTIME,
        options={"kind": kind, "index": index, "graphs": graphs, "compile": compile},
        spelled=chosen,
        described=chosen,
        threads=threads,
        pin=pin,
        gap_s=gap_s,
        first_call=first_call,
        timeout_s=timeout_s if timeout_s is not None else COMPILE_TIMEOUT_S if compile else TIMEOUT_S,
        memory_bytes=memory_bytes,
        transport=transport,
    )


TorchCpu = partial(torch_backend, kind="cpu", index=0, graphs=False)
"""PyTorch on the processor."""
torch_cuda = partial(torch_backend, kind="cuda")
"""PyTorch on an NVIDIA GPU, or an AMD one in builds for ROCm."""
torch_mps = partial(torch_backend, kind="mps", index=0, graphs=False)
"""PyTorch on the GPU of an Apple computer."""
torch_xpu = partial(torch_backend, kind="xpu", graphs=False)
"""PyTorch on an Intel GPU."""
