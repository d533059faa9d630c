"""Things that can time a program: contracts, the worker process, and the devices themselves."""

from adaptare.devices.agent import copies_in_turn, energy_j
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
from adaptare.devices.host import allowed_processors, hardware_name, instruction_sets
from adaptare.devices.onnx_runtime import OnnxRuntime, onnxruntime_version, ort_cpu
from adaptare.devices.program import Feed, Json, Program, Work, canonical_json
from adaptare.devices.registry import Reach, connect, reachable
from adaptare.devices.simulated import SimulatedDevice
from adaptare.devices.torch_cpu import TorchCpu
from adaptare.devices.whole_file import write_together, write_whole

__all__ = [
    "AdaptareError",
    "AgentWorker",
    "AttributedCall",
    "AttributingWorker",
    "Device",
    "DeviceError",
    "DeviceInfo",
    "Feed",
    "ForgettingWorker",
    "InputError",
    "Json",
    "Loaded",
    "MeteredWorker",
    "MissingPackageError",
    "OnnxRuntime",
    "OperatorTime",
    "Program",
    "ProgramError",
    "Reach",
    "SimulatedDevice",
    "StorageError",
    "TorchCpu",
    "Work",
    "Worker",
    "WorkerDiedError",
    "WorkerInfo",
    "allowed_processors",
    "canonical_json",
    "connect",
    "copies_in_turn",
    "energy_j",
    "hardware_name",
    "instruction_sets",
    "onnxruntime_version",
    "ort_cpu",
    "reachable",
    "write_together",
    "write_whole",
]
