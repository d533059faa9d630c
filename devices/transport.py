"""Connections to devices: start of the agent, and file transfer."""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from adaptare.devices.program import ProgramFile


@dataclass(frozen=True)
class Link:
    """A connection that can start an agent.

    Args:
        command: Command that starts it, with its replies on standard output.
        bring: Transfers the content of a file into the agent's folder, as `files/DIGEST`.
        environment: Environment variables of the command.
    """

    command: Sequence[str]
    bring: Callable[[ProgramFile], None]
    environment: Mapping[str, str]


class Transport(Protocol):
    """A kind of connection to a device.

    Attributes:
        name: Prefix of the device's spelling, for example `ssh://user@host`; empty for this machine.
        usual: Runtime of a spelling that names none; empty if every spelling names one.
    """

    name: str = ""
    usual: str = ""

    @staticmethod
    def found() -> Sequence[str]:
        """Spellings of the devices that can be found without knowing their address."""
        return ()

    def linked(self, runtime: str) -> AbstractContextManager[Link]:
        """Prepares an agent with a runtime, spelled `module:class`. Raises `DeviceError` if it is not reachable."""
        ...


class LocalTransport(Transport):
    """Starts agents as processes on this machine and links files instead of copying them."""

    @contextlib.contextmanager
    def linked(self, runtime: str) -> Iterator[Link]:
        """See `Transport.linked`."""
        with tempfile.TemporaryDirectory(prefix="adaptare-") as folder:

            def bring(file: ProgramFile) -> None:
                target = Path(folder) / "files" / file.digest
                try:
                    target.symlink_to(file.path.resolve())
                except OSError:  # the system does not permit symbolic links
                    shutil.copyfile(file.path, target)

            yield Link([sys.executable, "-m", "adaptare.devices.agent", runtime, folder], bring, local_environment())


def local_environment() -> dict[str, str]:
    """Environment variables of this process, with network and telemetry disabled."""
    return {**os.environ, "HF_HUB_OFFLINE": "1", "ORT_DISABLE_TELEMETRY": "1", "PYTHONUNBUFFERED": "1"}
