"""The contracts between everything that times programs and everything that asks for times."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from adaptare.devices.program import Program


@dataclass(frozen=True)
class DeviceInfo:
    """Who took the time. Measurements are comparable if and only if these are equal.

    Args:
        device: The spelling that opens it, for example `torch-cpu:threads=1`.
        hardware: Processor model as the system names it, with the architecture.
        runtime: Library and version, for example `torch 2.13.0`.
        threads: Threads inside one operator.
        options: Everything else that changes latency (pinning, flags), as sorted `name=value` pairs.
    """

    device: str
    hardware: str
    runtime: str
    threads: int
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class WorkerInfo:
    """What a worker says of itself when it was opened.

    Args:
        free_bytes: Memory free on the device.
        processors: Those it runs on, by number; none where it does not know.
        timer_step_s: Smallest step of its clock, seconds.
    """

    free_bytes: int
    processors: tuple[int, ...] = ()
    timer_step_s: float = 1e-9


@dataclass(frozen=True)
class Loaded:
    """What a worker says of a program it has just loaded.

    Args:
        program_id: Names the program in `run` and `unload`.
        resident_bytes: Growth of the worker's private memory while loading.
        load_s: Seconds until it is ready, without imports: every feed has been bound and called once.
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
        """What it says of itself."""
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
    """A worker that can also say what its device has used."""

    def energy_j(self) -> float | None:
        """Joules since some start, of everything that the counter counts; `None` where nothing does."""
        ...


@runtime_checkable
class ForgettingWorker(Worker, Protocol):
    """A worker that can also drop files from the page cache."""

    def forget(self, program: Program) -> bool:
        """Lets the next loading read the program's files from storage. Returns success."""
        ...


@dataclass(frozen=True)
class OperatorTime:
    """What the operators of one kind took in one call.

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
        """Who takes the time; equal on every call while nothing changed."""
        ...

    def open(self) -> AbstractContextManager[Worker]:
        """Starts a worker that lives until the context ends. Raises `DeviceError` if none can be had."""
        ...
