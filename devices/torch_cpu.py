"""PyTorch in eager mode, on the processor of this machine."""

from functools import partial

from adaptare.devices.agent_device import AgentDevice

TorchCpu = partial(AgentDevice, name="torch-cpu", runtime="adaptare.devices.agent.torch_runtime:TorchRuntime")
"""Runs `module:factory` programs in a process of their own; see `AgentDevice` for the options."""
