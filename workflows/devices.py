"""Reachable devices, removal of the files that are kept on them, and bundles of the agent in C."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adaptare.core import AdaptareError, InputError
from adaptare.core.extensions import extensions
from adaptare.core.progress import SILENT, Feedback
from adaptare.devices import AgentDevice, DeviceInfo, WorkerInfo
from adaptare.devices.native import Bundle
from adaptare.workflows.target import target_of


@dataclass(frozen=True)
class Reach:
    """Reachability of a device.

    Args:
        name: Spelling.
        info: Identity, if it is reachable.
        worker: Facts reported by its worker.
        problem: Reason it is not reachable, and what to do.
    """

    name: str
    info: DeviceInfo | None
    worker: WorkerInfo | None = None
    problem: str = ""


@dataclass(frozen=True)
class Machines:
    """Devices with the facts that their workers report, or the reasons why they cannot be reached.

    Args:
        named: True if the devices were named, so that each has to be reachable.
    """

    devices: Sequence[Reach]
    named: bool = False


@dataclass(frozen=True)
class AgentBundles:
    """Bundles of the agent for one kind of system, the latest first.

    Args:
        target: Name of the kind of system.
        is_new: True if the only one was just made.
    """

    target: str
    bundles: Sequence[Bundle]
    is_new: bool = False


def machines(named: Sequence[str] = (), *, feedback: Feedback = SILENT) -> Machines:
    """The named devices, or all that are registered and those that transports find; a worker of each reports its facts.

    Args:
        named: Spellings of devices.
        feedback: Receives progress.

    Raises:
        InputError: One of the names is of no device.
    """
    names = list(named)
    for name in names:
        _ = target_of(name).device
    if not named:
        discovered = [name for entry in extensions("adaptare.transports").values() for name in entry.load().discover()]
        names = sorted([*extensions("adaptare.devices"), *discovered])
    with feedback.progress("asking devices") as update:
        devices = []
        for number, name in enumerate(names):
            update(number / len(names), name)
            devices.append(_reach(name))
    return Machines(devices, named=bool(named))


def _reach(name: str) -> Reach:
    try:
        device = target_of(name).device
        with device.open() as worker:
            return Reach(name, device.info(), worker.info)
    except (AdaptareError, ImportError) as error:
        return Reach(name, None, problem=str(error))


def cleaned(named: Sequence[str]) -> Mapping[str, int]:
    """Removes adaptare's files from devices: device -> bytes freed there. Raises `InputError` and `DeviceError`."""
    if not named:
        raise InputError("name the devices to remove files from, for example ssh://user@host/ort-cpu")
    return {name: _clean(name) for name in named}


def _clean(name: str) -> int:
    device = target_of(name).device
    freed = device.clean() if isinstance(device, AgentDevice) else None
    if freed is None:
        raise InputError(f"device {name!r}: adaptare keeps no files there; there is nothing to remove")
    return freed
