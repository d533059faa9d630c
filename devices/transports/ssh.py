"""Devices that are reached by OpenSSH's own client, with the user's configuration, keys and known hosts."""

import contextlib
import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from adaptare.core import DeviceError, InputError
from adaptare.devices.transport import Link, Transport, ended_by, is_native
from adaptare.devices.transports.native_agent import native_link
from adaptare.devices.transports.python_agent import PYTHON, PythonAgent
from adaptare.devices.transports.remote_shell import (
    RECEIVED,
    Answer,
    clean_folder,
    located_folder,
    reason,
    run_command,
    transfer_timeout_s,
)

# Environment variable with the path of a configuration file that replaces those of the user and the system.
CONFIGURATION = "ADAPTARE_SSH_CONFIG"
TARGET = re.compile(
    r"(?:(?P<user>[\w.+][\w.+-]*)@)?(?P<host>[\w.][\w.-]*|\[(?P<address>[0-9A-Fa-f:.]+(?:%\w+)?)\])(?::(?P<port>\d+))?",
    re.ASCII,
)
# Used where the user's configuration is silent.
CONNECT_S, ALIVE_S, ALIVE_COUNT = 15, 15, 4
# Beyond connecting, authentication may wait for somebody to touch a key.
AUTHENTICATED_S = 60
# The shared connection ends after as many seconds without a session, if this process is killed.
PERSIST_S = 10
# The path of a socket has at most 104 characters, of which its name and that of its private folder take 38.
SOCKET_FOLDER_CHARACTERS, SHORT_FOLDER = 66, "/tmp"  # noqa: S108
FAILED = 255
# No terminal, no forwarding, no questions.
PLAIN = ["-T", "-a", "-x", "-oBatchMode=yes", "-oRemoteCommand=none", "-oClearAllForwardings=yes", "-oLogLevel=INFO"]


# Words of the client -> explanation and advice; the first match counts. `{address}` is for use after `ssh`.
KNOWN: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("HOST IDENTIFICATION HAS CHANGED", "has changed and you have requested strict checking"),
        "its host key changed: another machine answers, or it was reinstalled. If you know why, remove the old key "
        "with: ssh-keygen -R '{host}', and then connect once by hand: ssh {address}",
    ),
    (
        ("Host key verification failed", "host key is known for"),
        "its host key is unknown here; connect once by hand and compare the fingerprint: ssh {address}",
    ),
    (
        ("Permission denied (", "Too many authentication failures", "No supported authentication methods"),
        "it accepts no key of yours, and passwords are not asked for; send your key with: ssh-copy-id {address} (a key "
        "with a passphrase has to be in the agent: ssh-add)",
    ),
    (
        ("Could not resolve hostname", "hostname contains invalid characters"),
        "the host name is unknown; check its spelling, give an address, or name it in ~/.ssh/config",
    ),
    (
        ("Connection refused",),
        "the connection was refused; check the port, and start its ssh server (Debian, Raspberry Pi OS: sudo systemctl "
        "enable --now ssh; Termux: sshd, on port 8022)",
    ),
    (
        ("timed out", "No route to host", "Network is unreachable", "Host is down"),
        "it does not answer; check that it is switched on and reachable: ssh {address}",
    ),
)


def failed_connection(name: str, address: str, host: str, stderr: str) -> DeviceError:
    """The error that corresponds to messages of the client.

    Args:
        address: Arguments of `ssh` to connect by hand.
        host: Name of the host in the file of known keys.
    """
    for words, explanation in KNOWN:
        if any(word in stderr for word in words):
            return DeviceError(f"{name}: {explanation.format(address=address, host=host)}")
    return DeviceError(f"{name}: ssh failed: {_last(stderr)}; try it by hand: ssh {address}")


def lost_connection(name: str, stderr: str) -> DeviceError:
    """The error of a session on an open connection; arguments as for `failed_connection`."""
    if "Session open refused" in stderr:
        return DeviceError(
            f"{name}: it refuses a second session on one connection; raise MaxSessions in its sshd_config"
        )
    return DeviceError(
        f"{name}: the connection was lost (output of ssh: {_last(stderr)}); check the device and the network, and run "
        "the same command again"
    )


def _last(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return " | ".join(lines[-3:]) or "nothing"


@dataclass(frozen=True)
class Address:
    """Host, or alias of the user's configuration, with login name and port; empty: as configured."""

    host: str
    user: str = ""
    port: str = ""

    @classmethod
    def parsed(cls, target: str) -> "Address":
        """The address spelled `[user@]host[:port]`. Raises `InputError`."""
        match = TARGET.fullmatch(target)
        if match is None or not 0 < int(match["port"] or 22) < 65536:
            raise InputError(
                f"'ssh://{target}' names no host; write ssh://user@host:22/ort-cpu, user and port optional"
            )
        return cls(match["address"] or match["host"], match["user"] or "", match["port"] or "")

    @property
    def arguments(self) -> list[str]:
        """Arguments of `ssh`."""
        port = ["-p", self.port] if self.port else []
        return [*port, "--", f"{self.user}@{self.host}" if self.user else self.host]

    @property
    def by_hand(self) -> str:
        """Arguments of `ssh`, as typed by a user."""
        return " ".join(word for word in self.arguments if word != "--")


class OpenSsh:
    """An open connection; see `RemoteShell`. Sessions share it by a control socket in a private folder, the `place`."""

    def __init__(self, name: str, address: Address, place: Path) -> None:
        self.name, self._address = name, address
        configuration = os.environ.get(CONFIGURATION)
        self._program = ["ssh", *(["-F", configuration] if configuration else [])]
        self._socket = f"-oControlPath={str(place / 's').replace('%', '%%')}"
        self.folder = ""
        self._known_as = address.host
        self._is_open = False

    def command(self, script: str, *arguments: str) -> list[str]:
        # Where the shared connection is gone, no session may open one of its own.
        only_shared = [self._socket, "-oControlMaster=no", "-oProxyCommand=false"]
        remote = shlex.join(["sh", "-c", script, "sh", *arguments])
        return [*self._program, *only_shared, *PLAIN, *self._address.arguments, remote]

    def run(self, script: str, *arguments: str, timeout_s: float = 60.0) -> Answer:
        return self._ran(self.command(script, *arguments), timeout_s=timeout_s)

    def put(self, source: Path, target: str, digest: str) -> None:
        with source.open("rb") as content:
            timeout_s = transfer_timeout_s(os.fstat(content.fileno()).st_size)
            answer = self._ran(self.command(RECEIVED, digest, target), timeout_s=timeout_s, stdin=content)
        if answer.code:
            raise OSError(f"{self.name}: {reason(answer)}")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keeps the connection during work here, by a session that ends with the context, or with this process."""
        with subprocess.Popen(
            self.command("cat"),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is handled by the caller
        ) as session:
            try:
                yield
            finally:
                session.kill()

    def cause(self, code: int) -> str:
        return f"a lost connection to {self.name}" if code == FAILED else ended_by(code)

    def close(self) -> None:
        """Ends the connection, and with it all sessions."""
        with contextlib.suppress(DeviceError):
            self._ran([*self._program, self._socket, "-O", "exit", *self._address.arguments], timeout_s=10)

    def open(self) -> None:
        """Connects. Raises `DeviceError`."""
        settings = self._settings()
        host, port = settings.get("hostkeyalias") or settings.get("hostname", ""), settings.get("port", "22")
        self._known_as = host if port == "22" else f"[{host}]:{port}"
        connect_s = int(settings.get("connecttimeout", "none").replace("none", "0")) or CONNECT_S
        options = [
            self._socket,
            "-oControlMaster=yes",
            f"-oControlPersist={PERSIST_S}",
            f"-oConnectTimeout={connect_s}",
        ]
        if settings.get("serveraliveinterval", "0") == "0":
            options += [f"-oServerAliveInterval={ALIVE_S}", f"-oServerAliveCountMax={ALIVE_COUNT}"]
        command = [*self._program, *options, *PLAIN, "-N", "-f", *self._address.arguments]
        self._ran(command, timeout_s=connect_s + AUTHENTICATED_S)
        self._is_open = True
        self.folder = located_folder(self)

    def _settings(self) -> Mapping[str, str]:
        """The configuration that applies to the host, with keys in lower case."""
        lines = self._ran([*self._program, "-G", *self._address.arguments], timeout_s=CONNECT_S).out.splitlines()
        return {key: value for key, _, value in (line.partition(" ") for line in lines)}

    def _ran(self, command: Sequence[str], *, timeout_s: float, stdin: int | IO[bytes] = subprocess.DEVNULL) -> Answer:
        """Runs the client. Raises `DeviceError` if it cannot connect, or lost the connection."""
        late = f"{self.name}: no answer within {timeout_s:.0f} s; try it by hand: ssh {self._address.by_hand}"
        missing = "the program 'ssh' is not installed here; install the client of OpenSSH"
        answer = run_command(command, timeout_s=timeout_s, late=late, missing=missing, stdin=stdin)
        if answer.code == FAILED and self._is_open:
            raise lost_connection(self.name, answer.err)
        if answer.code == FAILED:
            raise failed_connection(self.name, self._address.by_hand, self._known_as, answer.err)
        return answer


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
            if is_native(runtime):
                with shell.held():  # it may have to be compiled first
                    link = native_link(shell, runtime)
            else:
                link = PythonAgent(shell, self._python, f"ssh {self._address.by_hand}").link(runtime)
            yield link

    @contextmanager
    def connected(self) -> Iterator[OpenSsh]:
        """A connection that ends with the context. Raises `DeviceError`."""
        folder = None if len(tempfile.gettempdir()) <= SOCKET_FOLDER_CHARACTERS else SHORT_FOLDER
        with tempfile.TemporaryDirectory(prefix="adaptare-", dir=folder, ignore_cleanup_errors=True) as place:
            connection = OpenSsh(self.name, self._address, Path(place))
            try:
                connection.open()
                yield connection
            finally:
                connection.close()

    def clean(self) -> int:
        """Removes adaptare's files from the device. Returns the bytes freed. Raises `DeviceError`."""
        with self.connected() as shell:
            return clean_folder(shell)
