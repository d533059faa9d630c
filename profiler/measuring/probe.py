"""Contract of a probe, which measures one quantity of workloads, and the registry of probes."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Protocol

from adaptare.core import InputError, ProgramError
from adaptare.core.extensions import extension, extensions
from adaptare.devices import Loaded, Program, Worker
from adaptare.profiler.programs.builders import Programs
from adaptare.profiler.workloads.workload import Workload

# Entry points are named after their quantity; each is called without arguments.
PROBES = "adaptare.probes"


@dataclass(frozen=True)
class Subject:
    """One workload in a worker.

    Args:
        program: Its program, with one feed.
        programs: Builder of other programs, such as that of its base.
        loaded: Its program as loaded, with its outputs checked; `None` in a worker of its own.
        call_s: Seconds of the last warm-up call.
        calls: Calls of a visit that is long enough for the worker's clock.
        touches: Calls before these that are not samples, because they bring the weights back into the caches.
    """

    workload: Workload
    program: Program
    programs: Programs
    loaded: Loaded | None = None
    call_s: float = 0.0
    calls: int = 1
    touches: int = 0

    @property
    def feed(self) -> str:
        """Identifier of the workload's inputs in the worker."""
        return self.workload.hash

    def run(self, worker: Worker, calls: int) -> Sequence[float]:
        """Seconds of some calls of the loaded program. Raises `ProgramError`, also if the worker reports others."""
        return seconds_of(worker, self.loaded.program_id if self.loaded else "", self.feed, calls)


def seconds_of(worker: Worker, program_id: str, feed: str, calls: int) -> Sequence[float]:
    """Seconds of some calls. Raises `ProgramError`, also if the worker reports what no call can take."""
    seconds = worker.run(program_id, feed, calls)
    if wrong := [each for each in seconds if not isinstance(each, Real) or not 0 < each < math.inf]:
        raise ProgramError(f"the worker reported calls of {wrong[0]!r} seconds; its clock or its runtime is broken")
    return seconds


class Probe(Protocol):
    """Measures one quantity; registered as an entry point in the group `adaptare.probes`."""

    @property
    def units(self) -> Mapping[str, str]:
        """Measured quantity -> SI unit; further quantities may follow, such as power after energy."""
        ...

    @property
    def openings(self) -> int:
        """Visits of each workload, in a fresh load of all programs each; the samples of the interval."""
        ...

    @property
    def alone(self) -> bool:
        """True if each visit needs a worker of its own, in which nothing is loaded."""
        ...

    def visit(self, worker: Worker, subject: Subject) -> Mapping[str, Sequence[float]]:
        """Samples of one visit by quantity; `quantity/detail` is measured in the unit of the quantity.

        Raises:
            ProgramError: The workload cannot be measured; it fails with this reason, and others go on.
            InputError: The device does not measure the quantity at all.
        """
        ...


def probe_of(quantity: str) -> Probe:
    """The registered probe that measures a quantity, also as a further one. Raises `InputError` if there is none."""
    probes = _registered()
    if quantity not in probes:
        raise InputError(f"unknown quantity {quantity!r}; installed packages measure {', '.join(sorted(probes))}")
    return probes[quantity]


def probes_of(quantities: Iterable[str]) -> list[Probe]:
    """Different probes that measure some quantities. Raises `InputError` as `probe_of`."""
    return list({type(probe): probe for probe in map(probe_of, quantities)}.values())


def units() -> Mapping[str, str]:
    """Every quantity that a registered probe measures -> its SI unit."""
    return {name: probe.units[name] for name, probe in _registered().items()}


def unit_of(quantity: str) -> str:
    """SI unit of a quantity. Raises `InputError` if no registered probe measures it."""
    return probe_of(quantity).units[quantity]


def _registered() -> Mapping[str, Probe]:
    """Every quantity -> the probe that measures it."""
    probes: list[Probe] = [extension(PROBES, name, kind="probe")() for name in extensions(PROBES)]
    return {name: probe for probe in probes for name in probe.units}
