"""Several devices side by side: at the same time on different machines, one after the other on the same one."""

import contextlib
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Protocol

from adaptare.core import AdaptareError, DeviceError, InputError
from adaptare.core.exit_codes import ExitCode
from adaptare.core.progress import Feedback
from adaptare.devices import this_machine
from adaptare.workflows.overhead.overhead_report import OverheadReport
from adaptare.workflows.target import target_of

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Measure(Protocol):
    """Measures one device; sent to other processes, so it has to be a function of a module, or `partial` of one."""

    def __call__(self, *, device: str, feedback: Feedback) -> OverheadReport:
        """Measures the device that is spelled so."""
        ...


@dataclass(frozen=True)
class Lost:
    """A device without a result.

    Args:
        problem: Reason, and what to do.
        exit_code: Exit code of that reason.
    """

    problem: str
    exit_code: ExitCode


@dataclass(frozen=True)
class SideBySide:
    """Result of `side_by_side`.

    Args:
        results: Device as it was spelled -> its report, or the reason that it has none; in the order of the request.
    """

    results: Mapping[str, OverheadReport | Lost]

    def to_json(self) -> dict[str, Any]:
        """See `Report`."""
        return {
            "devices": [
                {"spelling": name, "problem": "", **result.to_json()}
                if isinstance(result, OverheadReport)
                else {"spelling": name, "problem": result.problem}
                for name, result in self.results.items()
            ]
        }


def side_by_side(devices: Sequence[str], measure: Measure, *, feedback: Callable[[str], Feedback]) -> SideBySide:
    """Measures several devices; one that is lost leaves the others running.

    Those of this machine come first, one after the other, while nothing else runs. Then every other machine has a
    process of its own, in which its devices follow each other.

    Args:
        devices: Spellings, each once.
        measure: Measures one of them.
        feedback: Callbacks for one of them; a function of a module.

    Raises:
        InputError: A spelling is wrong or comes twice, or an option is not supported there.
    """
    if len(set(devices)) < len(devices):
        raise InputError("each device can be measured once; one came twice")
    if len(devices) > len(LETTERS):
        raise InputError(f"at most {len(LETTERS)} devices are measured side by side, not {len(devices)}")
    for name in devices:
        target_of(name)
    here, results = machine_here(), dict[str, OverheadReport | Lost]()
    machines: dict[str, list[str]] = {}
    for name in devices:
        try:
            machines.setdefault(_machine_of(name) or here, []).append(name)
        except DeviceError as error:
            results[name] = Lost(str(error), error.exit_code)
    results |= _measured(machines.pop(here, []), measure, feedback)
    if machines:
        context = multiprocessing.get_context("spawn")
        with contextlib.ExitStack() as stack:
            # A pool for each machine, as a process that dies breaks its pool.
            pools = [stack.enter_context(ProcessPoolExecutor(1, mp_context=context)) for _ in machines]
            running = [
                (names, pool.submit(_measured, names, measure, feedback))
                for names, pool in zip(machines.values(), pools, strict=True)
            ]
            for names, future in running:
                try:
                    results |= future.result()
                except BrokenProcessPool:
                    lost = Lost(
                        "the process that measured it was ended, perhaps for lack of memory", ExitCode.WORLD_FAILED
                    )
                    results |= dict.fromkeys(names, lost)
    return SideBySide({name: results[name] for name in devices})


def machine_here() -> str:
    """Identity of this machine since it was started."""
    return str(this_machine().environment()["boot"])


def _machine_of(name: str) -> str:
    """Identity of the machine of a device; empty if it does not tell, as if it were this one."""
    with target_of(name).device.open() as worker:
        return str(worker.info.environment.get("boot") or "")


def _measured(
    names: Sequence[str], measure: Measure, feedback: Callable[[str], Feedback]
) -> dict[str, OverheadReport | Lost]:
    """Results of the devices of one machine, one after the other."""
    results: dict[str, OverheadReport | Lost] = {}
    for name in names:
        try:
            results[name] = measure(device=name, feedback=feedback(name))
        except AdaptareError as error:
            results[name] = Lost(str(error), error.exit_code)
    return results
