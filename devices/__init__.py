"""Devices that time programs: contracts, the worker process, and the implementations."""

from adaptare.devices.agent.runtime import Runtime, RuntimeFacts
from adaptare.devices.agent_device import AgentDevice
from adaptare.devices.contracts import (
    AttributingWorker,
    Device,
    DeviceInfo,
    ForgettingWorker,
    ForkingWorker,
    Loaded,
    MeteredWorker,
    WatchedWorker,
    Worker,
    WorkerInfo,
)
from adaptare.devices.machine_facts import this_machine
from adaptare.devices.onnx_runtime import ort_cpu
from adaptare.devices.program import Feed, Program, ProgramFile, Work, program_file
from adaptare.devices.registry import connect
from adaptare.devices.simulated import SimulatedDevice
from adaptare.devices.torch_device import TorchCpu
from adaptare.devices.transport import Link, Transport

__all__ = [
    "AgentDevice",
    "AttributingWorker",
    "Device",
    "DeviceInfo",
    "Feed",
    "ForgettingWorker",
    "ForkingWorker",
    "Link",
    "Loaded",
    "MeteredWorker",
    "Program",
    "ProgramFile",
    "Runtime",
    "RuntimeFacts",
    "SimulatedDevice",
    "TorchCpu",
    "Transport",
    "WatchedWorker",
    "Work",
    "Worker",
    "WorkerInfo",
    "connect",
    "ort_cpu",
    "program_file",
    "this_machine",
]
