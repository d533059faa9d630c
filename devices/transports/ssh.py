"""Devices that are reached by ssh: boards, servers, phones with Termux."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from adaptare.core import InputError
from adaptare.devices.transport import Link, Transport, is_native
from adaptare.devices.transports.device_folder import clean_folder
from adaptare.devices.transports.native_agent import native_link
from adaptare.devices.transports.openssh import Address, OpenSsh, connected
from adaptare.devices.transports.python_agent import PYTHON, PythonAgent


class SshTransport(Transport):
    """Runs agents on another machine, by the user's own OpenSSH client and configuration.

    Args:
        target: `[user@]host[:port]`; the host may be an alias of the user's configuration.
        python: Python of the device, as a command or a path; relative paths start at the login folder.
    """

    def __init__(self, target: str, *, python: str = PYTHON) -> None:
        if not python or python.startswith("-"):
            raise InputError(f"python must be a command or a path on the device, not {python!r}")
        self._address = Address.parsed(target)
        self._python = python
        self.name = f"ssh://{target}"
        self.options = {} if python == PYTHON else {"python": python}

    @contextmanager
    def linked(self, runtime: str) -> Iterator[Link]:
        """Prepares an agent. Raises `MissingPackageError` for a package that is to be installed on the device."""
        with self.connected() as shell:
            agent = PythonAgent(shell, self._python, f"ssh {self._address.by_hand}")
            yield native_link(shell, runtime) if is_native(runtime) else agent.link(runtime)

    def connected(self) -> AbstractContextManager[OpenSsh]:
        """A connection that ends with the context. Raises `DeviceError`."""
        return connected(self.name, self._address)

    def clean(self) -> int:
        """Removes adaptare's files from the device. Returns the bytes freed. Raises `DeviceError`."""
        with self.connected() as shell:
            return clean_folder(shell)
