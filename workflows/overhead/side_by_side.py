"""Several devices side by side: at the same time on different machines, one after the other on the same one."""

import contextlib
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace

from adaptare.core import AdaptareError, DeviceError, InputError
from adaptare.core.progress import Feedback
from adaptare.devices import this_machine
from adaptare.workflows.overhead.overhead import OverheadReport, OverheadRequest, measure_overhead
from adaptare.workflows.target import target_of

MOST = 26


@dataclass(frozen=True)
class DeviceResult:
    """Result of one device.

    Args:
        spelling: Device as it was requested.
        report: `None` if the device has no result.
        problem: Reason why there is none, and what to do.
        bad_input: True if the request is the reason, not the device.
    """

    spelling: str
    report: OverheadReport | None = None
    problem: str = ""
    bad_input: bool = False


@dataclass(frozen=True)
class SideBySide:
    """Results of several devices, in the order of the request."""

    devices: Sequence[DeviceResult]


def side_by_side(
    request: OverheadRequest, devices: Sequence[str], *, feedback: Callable[[str], Feedback]
) -> SideBySide:
    """Measures several devices; one that is lost leaves the others running.

    Those of this machine come first, one after the other, while nothing else runs. Then every other machine has a
    process of its own, in which its devices follow each other.

    Args:
        request: Request for each of them.
        devices: Spellings, each once.
        feedback: Callbacks for one of them; a function of a module.

    Raises:
        InputError: A spelling is wrong or comes twice, or the request is invalid.
    """
    if len({(str(each.place), each.quantisation, each.dtype) for each in map(target_of, devices)}) < len(devices):
        raise InputError("each device can be measured once; one came twice")
    if len(devices) > MOST:
        raise InputError(f"at most {MOST} devices are measured side by side, not {len(devices)}")
    request.check()
    for name in devices:
        _ = target_of(name).device
    here, results = machine_here(), dict[str, DeviceResult]()
    machines: dict[str, list[str]] = {}
    for name in devices:
        try:
            machines.setdefault(_machine_of(name) or here, []).append(name)
        except DeviceError as error:
            results[name] = DeviceResult(name, problem=str(error))
    results |= _measured(machines.pop(here, []), request, feedback)
    if machines:
        context = multiprocessing.get_context("spawn")
        with contextlib.ExitStack() as stack:
            # A pool for each machine, as a process that dies breaks its pool.
            pools = [stack.enter_context(ProcessPoolExecutor(1, mp_context=context)) for _ in machines]
            running = [
                (names, pool.submit(_measured, names, request, feedback))
                for names, pool in zip(machines.values(), pools, strict=True)
            ]
            for names, future in running:
                try:
                    results |= future.result()
                except BrokenProcessPool:
                    problem = "the process that measured it was ended, perhaps for lack of memory"
                    results |= {name: DeviceResult(name, problem=problem) for name in names}
    return SideBySide([results[name] for name in devices])


def machine_here() -> str:
    """Identity of this machine since it was started."""
    return str(this_machine().environment()["boot"])


def _machine_of(name: str) -> str:
    """Identity of the machine of a device; empty if it does not tell, as if it were this one."""
    with target_of(name).device.open() as worker:
        return str(worker.info.environment.get("boot") or "")


def _measured(
    names: Sequence[str], request: OverheadRequest, feedback: Callable[[str], Feedback]
) -> dict[str, DeviceResult]:
    """Results of the devices of one machine, one after the other."""
    results: dict[str, DeviceResult] = {}
    for name in names:
        try:
            report = measure_overhead(replace(request, device=name), feedback=feedback(name))
            results[name] = DeviceResult(name, report)
        except AdaptareError as error:
            results[name] = DeviceResult(name, problem=str(error), bad_input=isinstance(error, InputError))
    return results
