"""Devices that time programs: contracts, the worker process, and the implementations."""

from adaptare.devices.agent.feeds import uniform
from adaptare.devices.agent.machine import USUAL_CACHE_BYTES, Machine
from adaptare.devices.agent.runtime import Runtime
from adaptare.devices.agent.server import copies_in_turn
from adaptare.devices.agent_device import AgentDevice, counts_first_call
from adaptare.devices.agent_file import write_agent
from adaptare.devices.agent_worker import AgentWorker
from adaptare.devices.contracts import (
    AttributedCall,
    AttributingWorker,
    Device,
    DeviceInfo,
    ForgettingWorker,
    Loaded,
    MeteredWorker,
    OperatorTime,
    WatchedWorker,
    Worker,
    WorkerInfo,
)
from adaptare.devices.errors import (
    AdaptareError,
    DeviceError,
    InputError,
    MissingPackageError,
    ProgramError,
    StorageError,
    WorkerDiedError,
)
from adaptare.devices.exit_codes import ExitCode
from adaptare.devices.interrupts import interrupts_noted
from adaptare.devices.onnx_runtime import OnnxRuntime, ort_cpu
from adaptare.devices.program import Feed, Json, Program, ProgramFile, Work, canonical_json
from adaptare.devices.program_files import program_file
from adaptare.devices.registry import Reach, clean, connect, reachable, split_options
from adaptare.devices.simulated import SimulatedDevice
from adaptare.devices.strict_json import parse_json
from adaptare.devices.torch_device import TorchCpu
from adaptare.devices.transport import Link, LocalTransport, Transport
from adaptare.devices.versioned_json import read_versioned, write_versioned
from adaptare.devices.whole_file import write_together, write_whole

__all__ = [
    "USUAL_CACHE_BYTES",
    "AdaptareError",
    "AgentDevice",
    "AgentWorker",
    "AttributedCall",
    "AttributingWorker",
    "Device",
    "DeviceError",
    "DeviceInfo",
    "ExitCode",
    "Feed",
    "ForgettingWorker",
    "InputError",
    "Json",
    "Link",
    "Loaded",
    "LocalTransport",
    "Machine",
    "MeteredWorker",
    "MissingPackageError",
    "OnnxRuntime",
    "OperatorTime",
    "Program",
    "ProgramError",
    "ProgramFile",
    "Reach",
    "Runtime",
    "SimulatedDevice",
    "StorageError",
    "TorchCpu",
    "Transport",
    "WatchedWorker",
    "Work",
    "Worker",
    "WorkerDiedError",
    "WorkerInfo",
    "canonical_json",
    "clean",
    "connect",
    "copies_in_turn",
    "counts_first_call",
    "interrupts_noted",
    "ort_cpu",
    "parse_json",
    "program_file",
    "reachable",
    "read_versioned",
    "split_options",
    "uniform",
    "write_agent",
    "write_together",
    "write_versioned",
    "write_whole",
]
