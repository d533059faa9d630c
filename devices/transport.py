"""Connections to devices: start of the agent, and file transfer."""

import contextlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, runtime_checkable

from adaptare.core.lazy_names import advice_to_install
from adaptare.devices.native.build import bundle_for
from adaptare.devices.native.compiler import target_here
from adaptare.devices.program import ProgramFile

# Variables of every agent: no network, no telemetry.
AGENT_VARIABLES = {"HF_HUB_OFFLINE": "1", "ORT_DISABLE_TELEMETRY": "1", "PYTHONUNBUFFERED": "1"}
# No module has this name.
NATIVE = "native-agent"
# A shell answers with this, plus the number of the signal that ended its command.
SIGNALLED = 128


def ended_by(code: int) -> str:
    """Explanation of an exit code, of a command or of the shell that ran it."""
    number = -code if code < 0 else code - SIGNALLED
    if number not in set(signal.Signals):
        return f"exit code {code}"
    name = signal.Signals(number).name
    return f"signal {name}" + " (killed from outside, often because memory ran out)" * (name == "SIGKILL")


@dataclass(frozen=True)
class Link:
    """A connection that can start an agent.

    Args:
        command: Command that starts it, with its replies on standard output.
        bring: Transfers the content of a file into the agent's folder, as `files/DIGEST`.
            Raises `OSError` if that file cannot be transferred, and `DeviceError` if the connection failed.
        cause: Explanation of an exit code of the command.
        install: Advice to install a package where the agent runs; empty if the package is none of its runtime.
    """

    command: Sequence[str]
    bring: Callable[[ProgramFile], None]
    environment: Mapping[str, str]
    cause: Callable[[int], str] = ended_by
    install: Callable[[str], str] = advice_to_install


class Transport(Protocol):
    """A kind of connection to a device.

    Attributes:
        name: Prefix of the device's spelling, for example `ssh://user@host`; empty for this machine.
        options: Its non-default options, which are part of the spelling too.
        usual: Runtime of a spelling that names none; empty if every spelling names one.
    """

    name: str = ""
    options: Mapping[str, str] = MappingProxyType({})
    usual: str = ""

    @staticmethod
    def discover() -> Sequence[str]:
        """Spellings of the devices that can be discovered without knowing their address."""
        return ()

    def linked(self, runtime: str) -> AbstractContextManager[Link]:
        """Prepares an agent with a runtime.

        Args:
            runtime: Class of the agent in Python, as `module:class`; or `NATIVE`, a colon and the folder of a bundle,
                or none, for the agent in C.

        Raises:
            DeviceError: The device is not reachable.
        """
        ...


@runtime_checkable
class CleanedTransport(Transport, Protocol):
    """A transport that keeps files on its device."""

    def clean(self) -> int:
        """Removes them. Returns the bytes freed. Raises `DeviceError`."""
        ...


def is_native(runtime: str) -> bool:
    """True if a runtime is the agent in C, see `Transport.linked`."""
    return runtime.partition(":")[0] == NATIVE


class LocalTransport(Transport):
    """Starts agents as processes on this machine and links files instead of copying them."""

    @contextlib.contextmanager
    def linked(self, runtime: str) -> Iterator[Link]:
        command = [sys.executable, "-m", "adaptare.devices.agent", runtime]
        if is_native(runtime):
            made = bundle_for(target_here(), runtime.partition(":")[2])
            command = made.command(str(made.folder))
        with tempfile.TemporaryDirectory(prefix="adaptare-") as folder:

            def bring(file: ProgramFile) -> None:
                target = Path(folder) / "files" / file.digest
                target.unlink(missing_ok=True)  # a link whose file is gone
                try:
                    target.symlink_to(file.path.resolve())
                except OSError:  # the system does not permit symbolic links
                    shutil.copyfile(file.path, target)

            yield Link([*command, folder], bring, local_environment())


def local_environment() -> dict[str, str]:
    """Environment variables of this process, with network and telemetry disabled."""
    return {**os.environ, **AGENT_VARIABLES}
