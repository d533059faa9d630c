"""Contracts between devices, which time programs, and the code that requests timings."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from adaptare.core.content_hash import content_hash
from adaptare.devices.program import Program

# Last-level caches of a device that does not report them.
USUAL_CACHE_BYTES = 32 * 2**20


@dataclass(frozen=True)
class DeviceInfo:
    """Identity of the measuring device. Measurements are comparable if and only if these are equal.

    Args:
        device: Spelling for `connect`, for example `torch-cpu:threads=1`.
        hardware: Processor model as named by the device, with the architecture.
        runtime: Name and version of the library, for example `torch 2.13.0`; the name selects the program builder.
        threads: Threads inside one operator.
        options: Everything else that changes latency, as sorted `name=value` pairs, including any deviation from a
            plain process that uses the runtime as documented.
        cache_bytes: Size of its last-level caches; determines the copies of a cold part. Not in the identity.
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

    @property
    def counts_first_call(self) -> bool:
        """True if the first call of a visit is a sample like the others."""
        return "first_call=counted" in self.options

    @property
    def hash(self) -> str:
        """Hash of the identity: 16 hex digits of SHA-256."""
        return content_hash(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """The identity as plain JSON values."""
        identity = {name: value for name, value in vars(self).items() if name != "cache_bytes"}
        return {**identity, "options": list(self.options)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "DeviceInfo":
        """Inverse of `to_json`; release 0.1.0 also wrote the clock step, which now belongs to the worker."""
        known = {name: value for name, value in content.items() if name != "timer_step_s"}
        return cls(**{**known, "options": tuple(content["options"])})


@dataclass(frozen=True)
class WorkerInfo:
    """Facts about a device, as reported by its worker at start; those not listed are as in `DeviceInfo`.

    Args:
        free_bytes: Memory free on the device.
        processors: Numbers of the processors it runs on; empty if unknown.
        timer_step_s: Smallest step of its clock, seconds.
        providers: Execution providers of the runtime.
        capabilities: Optional features: `energy`, `attribution`, `environment`, `forget`, `fork`; `adapter_file`: a
            feed may name a program file, `adapter`, with the values of the inputs that it does not specify.
        environment: Snapshot of everything outside the identity that may change latency: frequencies, temperature,
            load, variables, page policy, battery, as far as available.
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
    """Facts about a newly loaded program.

    Args:
        program_id: Identifier of the program for `run` and `unload`.
        resident_bytes: Growth of the worker's private memory while loading.
        load_s: Seconds until every feed is bound and called once, without imports. Files read before come from the page
            cache.
        providers: Number of nodes that each execution provider actually runs; torch counts as one.
        outputs: Feed name -> values of the first output, evenly spaced, at most 512; programs of the same function must
            agree here for the same feed before either is timed.
        bind_s: Feed name -> seconds to create its inputs and bind them.
        first_call_s: Feed name -> seconds of its first call, which allocates buffers that later calls reuse.
        peak_bytes: Peak resident memory of the worker until the program is ready; 0 if unknown.
        copies: Number of copies that are called in turn.
        host_share: Feed name -> share of a call in which the host still issues it to an accelerator; near 1, the
            accelerator waits for the host, which sets the latency. Empty where the host computes.
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
    host_share: Mapping[str, float] = field(default_factory=dict)


class Worker(Protocol):
    """A process on the device that loads programs and times calls.

    Every method raises `ProgramError` if the program fails and the worker survives, and `WorkerDiedError` if the worker
    ended or stopped answering, after which a new worker is needed.
    """

    @property
    def info(self) -> WorkerInfo:
        """Facts about the device, as reported at the start of the worker."""
        ...

    def load(self, program: Program) -> Loaded:
        """Prepares a program for running, with every feed bound."""
        ...

    def run(self, program_id: str, feed_id: str, calls: int) -> Sequence[float]:
        """Wall-clock seconds of each call, in order; the state is restored before each, outside the timed region."""
        ...

    def unload(self, program_id: str) -> None:
        """Frees the program's memory."""
        ...


@runtime_checkable
class MeteredWorker(Worker, Protocol):
    """A worker of a device with an energy counter, if `energy` is among its capabilities."""

    def energy_j(self) -> float | None:
        """Joules of everything the counter includes, since an arbitrary start; `None` without a counter."""
        ...


@runtime_checkable
class WatchedWorker(Worker, Protocol):
    """A worker that can also report its environment later on."""

    def environment(self) -> Mapping[str, Any]:
        """Present snapshot, as `WorkerInfo.environment` is the one at the start."""
        ...


@runtime_checkable
class ForgettingWorker(Worker, Protocol):
    """A worker that can also drop files from the page cache."""

    def forget(self, program: Program) -> bool:
        """Makes the next load read the program's files from storage. Returns True on success."""
        ...


@runtime_checkable
class ForkingWorker(Worker, Protocol):
    """A worker that can also continue in a fork of its process, if `fork` is among its capabilities."""

    def fork(self, program: Program) -> bool:
        """Ends all programs, and continues in new memory, with only the packages of this program imported.

        Returns False if it cannot: threads of libraries, which an earlier program started, do not survive a fork.
        """
        ...


@dataclass(frozen=True)
class OperatorTime:
    """Time of the operators of one type in one call.

    Args:
        name: Operator type in the runtime: `MatMul` in ONNX Runtime, `aten::mm` in torch.
        calls: Executions.
        seconds: Total self time, excluding nested operators.
    """

    name: str
    calls: int
    seconds: float


@dataclass(frozen=True)
class AttributedCall:
    """One call under the runtime's profiler.

    Args:
        seconds: Time of the whole call, including profiler overhead.
        operators: Operators of the call; their times add up to no more than the call.
    """

    seconds: float
    operators: tuple[OperatorTime, ...]


@runtime_checkable
class AttributingWorker(Worker, Protocol):
    """A worker that can also attribute time to operators."""

    def attribute(self, program: Program, feed_id: str, calls: int) -> Sequence[AttributedCall]:
        """Loads the program under the runtime's profiler, for this purpose only; warm-up calls are excluded."""
        ...


class Device(Protocol):
    """A target on which programs are timed."""

    def info(self) -> DeviceInfo:
        """Identity of the device, reported by its worker; equal on every call unless the device changed."""
        ...

    def capacity_bytes(self) -> int:
        """Memory that was free for programs when a worker last started; starts one only if there was none."""
        ...

    def open(self) -> AbstractContextManager[Worker]:
        """Starts a worker that lives until the context ends. Raises `DeviceError` if no worker can be started."""
        ...
