"""PyTorch, on the processor of this machine or on an accelerator."""

from functools import partial
from typing import Literal, Unpack

from adaptare.core import InputError
from adaptare.devices.agent_device import AgentDevice, AgentOptions, yes_or_no

RUNTIME = "adaptare.devices.agent.torch_runtime:TorchRuntime"
# Compiling takes minutes where a call takes milliseconds.
COMPILE_TIMEOUT_S = 1800.0


def torch_backend(
    *,
    kind: Literal["cpu", "cuda", "mps", "xpu"],
    index: int = 0,
    graphs: bool = False,
    compile: bool = False,  # noqa: A002 (the name of the option)
    **options: Unpack[AgentOptions],
) -> AgentDevice:
    """Device that runs `module:factory` programs in a separate process, eager by default.

    Calls on an accelerator are timed by events on it, from idle to the end of their last kernel; its clocks are raised
    before. None of the accelerators has been tried on hardware yet.

    Args:
        kind: `cpu`, or the module of torch for the accelerator: `cuda`, `mps` or `xpu`.
        index: Number of the accelerator among those that torch can see.
        graphs: Captures each call as a CUDA graph, and times its replay.
        compile: Compiles each program as a whole by `torch.compile`, for the shapes of each feed.
        options: Options of `AgentDevice`. Calls that compile may take 1800 s by default. On an accelerator there is no
            pause, and the limit of memory is one of the accelerator.
    """
    if graphs and kind != "cuda":
        raise InputError(f"graphs are those of CUDA; torch-{kind} has none")
    chosen = {"index": str(index)} if index else {}
    chosen |= {name: yes_or_no(True) for name, value in (("graphs", graphs), ("compile", compile)) if value}
    if compile:
        options.setdefault("timeout_s", COMPILE_TIMEOUT_S)
    return AgentDevice(
        name=f"torch-{kind}",
        runtime=RUNTIME,
        options={"kind": kind, "index": index, "graphs": graphs, "compile": compile},
        spelled=chosen,
        described=chosen,
        **options,
    )


TorchCpu = partial(torch_backend, kind="cpu", index=0, graphs=False)
"""PyTorch on the processor."""
torch_cuda = partial(torch_backend, kind="cuda")
"""PyTorch on an NVIDIA GPU, or an AMD one in builds for ROCm."""
torch_mps = partial(torch_backend, kind="mps", index=0, graphs=False)
"""PyTorch on the GPU of an Apple computer."""
torch_xpu = partial(torch_backend, kind="xpu", graphs=False)
"""PyTorch on an Intel GPU."""
