"""OpenSSH's server on loopback, as a device: another home, few programs, and a Python that has no adaptare."""

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import psutil

SSHD = shutil.which("sshd", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))
MISSING = "" if SSHD and shutil.which("ssh") and shutil.which("ssh-keygen") else "OpenSSH's server is not installed"
# All that a device has to have, beside Python.
PROGRAMS = ("sh", "cat", "mkdir", "mv", "rm", "du", "sha256sum")
ALIAS = "board"


class SshServer:
    """A server with keys, ports and files of its own; `configuration` is that of a client who knows it.

    Args:
        place: A folder for all of its files.
        programs: Those of the device; Python comes by `add_python`.
        shell: Words that start the shell of every session.
        cache: Value of XDG_CACHE_HOME there.
        settings: More lines of the server's configuration.
    """

    def __init__(
        self,
        place: Path,
        *,
        programs: Collection[str] = PROGRAMS,
        shell: str = "sh",
        cache: str = "",
        settings: Collection[str] = (),
    ) -> None:
        self.place, self.home, self.cache, self.tools = place, place / "home", place / "its cache", place / "tools"
        self.known_hosts, self.configuration = place / "known_hosts", place / "client.conf"
        self.user, self.port = getpass.getuser(), 0
        self._shell, self._settings, self._cache = shell, settings, cache or str(self.cache)
        self._process: subprocess.Popen[bytes] | None = None
        for folder in (self.home, self.cache, self.tools):
            folder.mkdir(parents=True)
        for program in programs:
            (self.tools / program).symlink_to(shutil.which(program) or "")
        self.new_key("host")
        self.new_key("user")
        self.start()

    @property
    def target(self) -> str:
        return f"{self.user}@127.0.0.1:{self.port}"

    @property
    def spelling(self) -> str:
        return f"ssh://{self.target}/ort-cpu"

    @property
    def folder(self) -> Path:
        """What adaptare keeps on the device."""
        return self.cache / "adaptare" / "device"

    def new_key(self, name: str) -> Path:
        key = self.place / name
        key.unlink(missing_ok=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        return key

    def start(self) -> None:
        """Starts to listen, on another port than before, and tells the client."""
        for _ in range(5):  # somebody else may be given the same port
            self.port = free_port()
            self._write_configurations()
            if self._started():
                return
        raise RuntimeError((self.place / "log").read_text())

    def _write_configurations(self) -> None:
        environment = {"HOME": self.home, "XDG_CACHE_HOME": self._cache, "PATH": self.tools}
        variables = [f'"{name}={value}"' for name, value in environment.items()]
        lines = [
            f"Port {self.port}",
            "ListenAddress 127.0.0.1",
            f'HostKey "{self.place / "host"}"',
            f'AuthorizedKeysFile "{self.place / "user.pub"}"',
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "UsePAM no",
            "StrictModes no",
            "PidFile none",
            f"SetEnv {' '.join(variables)}",
            f'ForceCommand cd "$HOME" && exec {self._shell} -c "$SSH_ORIGINAL_COMMAND"',
            *self._settings,
        ]
        (self.place / "server.conf").write_text("\n".join(lines) + "\n")
        key = " ".join((self.place / "host.pub").read_text().split()[:2])
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {key}\n")
        lines = [
            f"Host {ALIAS}",
            "HostName 127.0.0.1",
            f"Port {self.port}",
            "Host *",
            f"User {self.user}",
            f'IdentityFile "{self.place / "user"}"',
            "IdentitiesOnly yes",
            f'UserKnownHostsFile "{self.known_hosts}"',
            "GlobalKnownHostsFile none",
        ]
        self.configuration.write_text("\n".join(lines) + "\n")

    def _started(self) -> bool:
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        with (self.place / "log").open("wb") as log:
            command = [str(SSHD), "-D", "-e", "-f", str(self.place / "server.conf")]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        while self._process.poll() is None:
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", self.port)):
                return True
            time.sleep(0.01)
        return False

    def add_python(self, name: str = "python3", *, without: Collection[str] = (), path: Collection[Path] = ()) -> Path:
        """A Python of the device, which imports all that is installed here, except for adaptare.

        Args:
            name: Its name in the folder of the device's programs.
            without: Packages that are not installed there.
            path: Folders with more packages.
        """
        packages = self.place / f"packages of {name}"
        packages.mkdir()
        for package in Path(np.__file__).parents[1].iterdir():
            left_out = any(word in package.name for word in ("adaptare", *without))
            if not left_out and package.suffix != ".pth":
                (packages / package.name).symlink_to(package)
        paths = os.pathsep.join(map(str, [*path, packages]))
        return self.add_program(name, f"PYTHONPATH='{paths}' exec {sys.executable} -S -s \"$@\"")

    def add_program(self, name: str, script: str) -> Path:
        program = self.tools / name
        program.unlink(missing_ok=True)
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        return program

    def sessions(self) -> list[psutil.Process]:
        """Processes of the server for each connection."""
        found = psutil.Process(self._process.pid).children(recursive=True) if self._process else []
        return [process for process in found if "sshd" in process.name()]

    def agents(self) -> list[psutil.Process]:
        """Agents that run on the device, and the shells that wait for them: `… MODULE:RUNTIME FOLDER`."""
        commands = [(each, each.info["cmdline"] or []) for each in psutil.process_iter(["cmdline"])]
        return [each for each, words in commands if words[-1:] == [str(self.folder)] and ":" in words[-2]]

    def cut(self) -> None:
        """Kills the server and all of its connections, but nothing that runs on the device."""
        for process in [*self.sessions(), psutil.Process(self._process.pid)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """Ends everything that was started."""
        if self._process.poll() is None:
            self.cut()
        for agent in self.agents():
            with contextlib.suppress(psutil.NoSuchProcess):
                agent.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def ssh_server(place: Path, **options: object) -> Iterator[SshServer]:
    """A server that is stopped at the end."""
    server = SshServer(place, **options)
    try:
        yield server
    finally:
        server.close()
