"""Reachable devices, removal of the files that are kept on them, and bundles of the agent in C."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adaptare.core import InputError
from adaptare.devices.native.bundle import Bundle
from adaptare.devices.registry import Reach, clean, reachable
from adaptare.workflows.target import read_spelling


@dataclass(frozen=True)
class Machines:
    """Devices with the facts that their workers report, or the reasons why they cannot be reached.

    Args:
        named: True if the devices were named, so that each has to be reachable.
    """

    devices: Sequence[Reach]
    named: bool = False


@dataclass(frozen=True)
class Cleaned:
    """Result of removing files from devices.

    Args:
        freed_bytes: Device -> bytes freed there.
    """

    freed_bytes: Mapping[str, int]


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


def machines(named: Sequence[str] = ()) -> Machines:
    """Every device of this machine, or the named ones. Raises `InputError`."""
    return Machines(reachable([read_spelling(name).device for name in named]), named=bool(named))


def cleaned(named: Sequence[str]) -> Cleaned:
    """Removes adaptare's files from the named devices. Raises `InputError` and `DeviceError`."""
    if not named:
        raise InputError("name the devices to remove files from, for example ssh://user@host/ort-cpu")
    return Cleaned({name: clean(name) for name in named})
