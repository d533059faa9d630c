"""The contracts between everything that times programs and everything that asks for times."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from adaptare.devices.agent.machine import USUAL_CACHE_BYTES
from adaptare.devices.program import Program


@dataclass(frozen=True)
class DeviceInfo:
    """Identity of the measuring device. Measurements are comparable if and only if these are equal.

    Args:
        device: The spelling that opens it, for example `torch-cpu:threads=1`.
        hardware: Processor model as the device names it, with the architecture.
        runtime: Name and version of the library, for example `torch 2.13.0`; the name selects who builds its programs.
        threads: Threads inside one operator.
        options: Everything else that changes latency, as sorted `name=value` pairs; what differs from a plain process
            that uses the runtime as documented is among them.
        cache_bytes: Size of its last-level caches; decides how many copies a cold part needs. No part of the identity.
    """

    device: str
    hardware: str
    runtime: str
    threads: int
    options: tuple[str, ...] = ()
    cache_bytes: int = field(default=USUAL_CACHE_BYTES, compare=False)

    @property
    def runtime_name(self) -> str:
        """Name of the runtime without its version."""
        return self.runtime.split()[0]


@dataclass(frozen=True)
class WorkerInfo:
    """Facts about a device as its worker tells them when it is opened.

    Args:
        free_bytes: Memory free on the device.
        processors: Processors it runs on, by number; none where it does not know.
        timer_step_s: Smallest step of its clock, seconds.
        hardware: See `DeviceInfo`.
        runtime: See `DeviceInfo`.
        threads: See `DeviceInfo`.
        cache_bytes: See `DeviceInfo`.
        providers: Execution providers of the runtime.
        capabilities: What it can do beside loading and running: `energy`, `attribution`, `environment`, `forget`.
        environment: Snapshot of all that may change latency and is no part of the identity: frequencies, temperature,
            load, variables, page policy, battery, as far as the device tells.
        gap_s: Pause before a program runs after another one, seconds.
    """

    free_bytes: int
    processors: tuple[int, ...] = ()
    timer_step_s: float = 1e-9
    hardware: str = ""
    runtime: str = ""
    threads: int = 1
    cache_bytes: int = USUAL_CACHE_BYTES
    providers: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict, hash=False, repr=False)
    gap_s: float = 0.0


@dataclass(frozen=True)
class Loaded:
    """Facts about a program that a worker has just loaded.

    Args:
        program_id: Names the program in `run` and `unload`.
        resident_bytes: Growth of the worker's private memory while loading.
        load_s: Seconds until it is ready, without imports: every feed has been bound and called once. Files that were
            read before come from the page cache.
        providers: How many nodes each execution provider really runs; torch names itself.
        outputs: Feed name -> the first values of the first output, evenly spaced, at most 512; the same feed
            of programs that mean the same function must agree here before either is timed.
        bind_s: Feed name -> seconds to make its inputs and bind them.
        first_call_s: Feed name -> seconds of its first call, which allocates whatever later calls find there.
        peak_bytes: The most memory the whole worker had resident until it was ready; 0 where that is unknown.
        copies: How many of it are called in turn.
    """

    program_id: str
    resident_bytes: int
    load_s: float
    providers: Mapping[str, int]
    outputs: Mapping[str, tuple[float, ...]]
    bind_s: Mapping[str, float] = field(default_factory=dict)
    first_call_s: Mapping[str, float] = field(default_factory=dict)
    peak_bytes: int = 0
    copies: int = 1


class Worker(Protocol):
    """A process on the device that loads programs and times calls.

    Every method raises `ProgramError` when the program is at fault and the worker lives, `WorkerDiedError`
    when the worker ended or stopped answering; after the latter only a new worker helps.
    """

    @property
    def info(self) -> WorkerInfo:
        """Facts about the device, as the worker told them when it was opened."""
        ...

    def load(self, program: Program) -> Loaded:
        """Makes a program ready to run, with every feed bound beforehand."""
        ...

    def run(self, program_id: str, feed_id: str, calls: int) -> Sequence[float]:
        """Wall-clock seconds of each call, in order, state restored between them outside the timed region."""
        ...

    def unload(self, program_id: str) -> None:
        """Gives the program's memory back."""
        ...


@runtime_checkable
class MeteredWorker(Worker, Protocol):
    """A worker of a device that counts energy, where `energy` is among its capabilities."""

    def energy_j(self) -> float | None:
        """Joules since some start, of everything that the counter counts; `None` where nothing does."""
        ...


@runtime_checkable
class WatchedWorker(Worker, Protocol):
    """A worker that can also describe its environment again, while it is open."""

    def environment(self) -> Mapping[str, Any]:
        """See `WorkerInfo.environment`."""
        ...


@runtime_checkable
class ForgettingWorker(Worker, Protocol):
    """A worker that can also drop files from the page cache."""

    def forget(self, program: Program) -> bool:
        """Lets the next loading read the program's files from storage. Returns success."""
        ...


@dataclass(frozen=True)
class OperatorTime:
    """Time of the operators of one kind in one call.

    Args:
        name: As the runtime calls the kind: `MatMul` in ONNX Runtime, `aten::mm` in torch.
        calls: How often it ran.
        seconds: Of all of them, without the operators that they called themselves.
    """

    name: str
    calls: int
    seconds: float


@dataclass(frozen=True)
class AttributedCall:
    """One call while the runtime's profiler was at work.

    Args:
        seconds: Of the whole call, the profiler's own work included.
        operators: Those that ran in it; together they took no longer.
    """

    seconds: float
    operators: tuple[OperatorTime, ...]


@runtime_checkable
class AttributingWorker(Worker, Protocol):
    """A worker that can also say which operators take the time."""

    def attribute(self, program: Program, feed_id: str, calls: int) -> Sequence[AttributedCall]:
        """Loads the program for this alone, with the runtime's profiler; warm-up calls are left out."""
        ...


class Device(Protocol):
    """Something that can time programs."""

    def info(self) -> DeviceInfo:
        """Identity of the device, from its worker's answers; equal on every call while nothing changed."""
        ...

    def open(self) -> AbstractContextManager[Worker]:
        """Starts a worker that lives until the context ends. Raises `DeviceError` if none can be had."""
        ...
