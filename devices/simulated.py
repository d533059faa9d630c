"""A device whose true latency has a closed form: ground truth for tests of statistics."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from adaptare.core import InputError, ProgramError, WorkerDiedError
from adaptare.devices.contracts import DeviceInfo, Loaded, Worker, WorkerInfo
from adaptare.devices.program import Program, Work


@dataclass(frozen=True)
class Moment:
    """Time and state of a simulated worker at a call.

    Args:
        clock_s: Virtual time since the device was created, seconds.
        call: Calls of this program since it was loaded.
        opening: Number of earlier workers of the device.
        switched: True if another program ran just before.
    """

    clock_s: float
    call: int
    opening: int
    program: str
    switched: bool


class SimulatedNoise(Protocol):
    """Factor on the true latency of a call."""

    def factor(self, moment: Moment, rng: np.random.Generator) -> float:
        """Factor; 1 leaves the latency unchanged."""
        ...


@dataclass(kw_only=True, eq=False, repr=False)
class SimulatedDevice:
    """Simulates `launch_s x launches + max(bytes / bandwidth, flops / compute)`, multiplied by noise.

    Time is virtual: a thousand simulated seconds take milliseconds. Each new worker continues the clock.

    Args:
        launch_s: Cost of issuing one kernel, seconds.
        bandwidth_bytes_s: Memory bandwidth, bytes per second.
        compute_flops_s: Arithmetic throughput, floating-point operations per second.
        noise: Disturbances, multiplied with each other.
        seed: Seed of the noise.
        failures: Program hash -> behaviour when it runs: `error` (the worker survives) or `crash`.
        dies_after_calls: Total number of calls on the device, of any program, after which the present worker dies.
        free_bytes: Free memory reported by its workers.
        power_w: Power during a call, watts; `None`: no energy counter.

    References:
        Williams, Waterman, Patterson 2009, "Roofline: an insightful visual performance model".
    """

    launch_s: float = 2e-6
    bandwidth_bytes_s: float = 10e9
    compute_flops_s: float = 50e9
    noise: Sequence[SimulatedNoise] = ()
    seed: int = 0
    failures: Mapping[str, Literal["error", "crash"]] = field(default_factory=dict)
    dies_after_calls: int | None = None
    free_bytes: int = 8 * 2**30
    power_w: float | None = None

    def __post_init__(self) -> None:
        if min(self.launch_s, self.bandwidth_bytes_s, self.compute_flops_s) <= 0:
            raise InputError("launch_s, bandwidth_bytes_s and compute_flops_s must be above 0")
        self.rng = np.random.default_rng(self.seed)
        self.clock_s = 0.0
        self.moved_bytes = 0
        self.calls = 0
        self.openings = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.info().device}>"

    def latency_s(self, work: Work) -> float:
        """True latency of a call with this work, without noise, seconds."""
        moving_s = work.moved_bytes / self.bandwidth_bytes_s
        computing_s = work.flops / self.compute_flops_s
        return self.launch_s * work.launches + max(moving_s, computing_s)

    def info(self) -> DeviceInfo:
        values = {name: getattr(self, name) for name in ("launch_s", "bandwidth_bytes_s", "compute_flops_s")}
        chosen = [f"{name}={value!r}" for name, value in values.items() if value != getattr(SimulatedDevice, name)]
        options = tuple(sorted(f"{name}={value:g}" for name, value in values.items()))
        return DeviceInfo(":".join(["simulated", ",".join(chosen)]).rstrip(":"), "closed form", "simulated", 1, options)

    def capacity_bytes(self) -> int:
        return self.free_bytes

    @contextmanager
    def open(self) -> Iterator[Worker]:
        self.openings += 1
        worker = SimulatedWorker(self, self.openings - 1)
        try:
            yield worker
        finally:
            worker.close()


class SimulatedWorker:
    """Worker on the virtual clock of its device."""

    def __init__(self, device: SimulatedDevice, opening: int) -> None:
        self._device = device
        self._opening = opening
        self._programs: dict[str, Program] = {}
        self._calls: dict[str, int] = {}
        self._last = ""
        self._alive = True

    @property
    def info(self) -> WorkerInfo:
        device = self._device
        known = device.info()
        energy = ("energy",) if device.power_w is not None else ()
        return WorkerInfo(
            device.free_bytes, hardware=known.hardware, runtime=known.runtime, capabilities=energy, environment={}
        )

    def load(self, program: Program) -> Loaded:
        self._check_alive()
        program_id = f"{program.hash}-{len(self._calls)}"
        self._programs[program_id] = program
        self._calls[program_id] = 0
        first_call_s = {feed.name: self._device.latency_s(feed.work) for feed in program.feeds}
        return Loaded(
            program_id,
            resident_bytes=program.weight_bytes,
            load_s=sum(first_call_s.values()),
            providers={"simulated": 1},
            outputs={},
            bind_s=dict.fromkeys(first_call_s, 0.0),
            first_call_s=first_call_s,
        )

    def run(self, program_id: str, feed_id: str, calls: int) -> Sequence[float]:
        self._check_alive()
        program = self._loaded(program_id)
        failure = self._device.failures.get(program.hash)
        if failure == "crash":
            self._alive = False
            raise WorkerDiedError("the simulated worker died")
        if failure == "error":
            raise ProgramError("the simulated program failed")
        works = {feed.name: feed.work for feed in program.feeds}
        if feed_id not in works:
            raise ProgramError(f"the program has no feed {feed_id!r}; it has {sorted(works)}")
        true_s = self._device.latency_s(works[feed_id])
        self._device.moved_bytes += calls * works[feed_id].moved_bytes
        return [self._call(program_id, program.hash, true_s) for _ in range(calls)]

    def energy_j(self) -> float | None:
        return None if self._device.power_w is None else self._device.power_w * self._device.clock_s

    @property
    def moved_bytes(self) -> int:
        """Bytes read or written by all calls on the device so far."""
        return self._device.moved_bytes

    def unload(self, program_id: str) -> None:
        self._check_alive()
        self._loaded(program_id)
        del self._programs[program_id]

    def close(self) -> None:
        """Ends the worker."""
        self._alive = False

    def _loaded(self, program_id: str) -> Program:
        if program_id not in self._programs:
            raise ProgramError(f"no program {program_id!r} is loaded")
        return self._programs[program_id]

    def _call(self, program_id: str, program_hash: str, true_s: float) -> float:
        device = self._device
        if device.calls == device.dies_after_calls:
            self._alive = False
        device.calls += 1
        self._check_alive()
        moment = Moment(device.clock_s, self._calls[program_id], self._opening, program_hash, self._last != program_id)
        seconds = true_s
        for noise in device.noise:
            seconds *= noise.factor(moment, device.rng)
        self._calls[program_id] += 1
        self._last = program_id
        device.clock_s += seconds
        return seconds

    def _check_alive(self) -> None:
        if not self._alive:
            raise WorkerDiedError("the simulated worker is dead")
