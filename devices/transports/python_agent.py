"""Start of the agent in the Python of a device, as one file or as an installed package."""

import hashlib
import importlib
import json
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from adaptare.devices.agent_file import write_agent
from adaptare.devices.errors import DeviceError, MissingPackageError
from adaptare.devices.program import ProgramFile
from adaptare.devices.transport import AGENT_VARIABLES, Link, local_environment
from adaptare.devices.transports.device_folder import prepare_folder, reason
from adaptare.devices.transports.remote_shell import RemoteShell

PYTHON = "python3"
OLDEST = (3, 9)
NO_SUCH_COMMAND = 127
# Runs in any Python, also in one that is too old.
FACTS = """
import json, os, sys, sysconfig
try:
    from importlib import metadata
    adaptare = metadata.version("adaptare")
except ImportError:
    adaptare = ""
mark = os.path.join(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED")
managed = sys.prefix == getattr(sys, "base_prefix", sys.prefix) and os.path.exists(mark)
print(json.dumps({"version": sys.version_info[:3], "managed": managed, "adaptare": adaptare}))
"""
# Arguments: a Python, its program, and the file of the agent.
PROBED = f"""
command -v "$1" >/dev/null || exit {NO_SUCH_COMMAND}
[ -f "$3" ] && echo present || echo absent
"$1" -c "$2"
"""
# The shell stays, because its exit code tells of a signal. Arguments: the command.
STARTED = "".join(f"export {name}={value}\n" for name, value in AGENT_VARIABLES.items()) + '"$@"\nexit $?\n'


@dataclass(frozen=True)
class RemotePython:
    """A Python on a device.

    Args:
        device: Prefix of the device's spelling.
        python: Command that starts it.
        by_hand: Command of this machine that runs a command there, for messages.
    """

    device: str
    python: str
    by_hand: str

    def install(self, packages: Sequence[str], managed: bool) -> str:
        """Advice to install packages.

        Args:
            packages: Requirements, as for pip.
            managed: True if this Python belongs to its operating system, and refuses packages of pip.
        """
        if not managed:
            return f"install it on the device with: {self._typed([self.python, '-m', 'pip', 'install', *packages])}"
        made = shlex.join([self.python, "-m", "venv", "adaptare"])
        filled = shlex.join(["adaptare/bin/pip", "install", *packages])
        return (
            f"its Python takes packages only in a virtual environment; make one with: {self.by_hand} "
            f'"{made} && {filled}", and give the device the option python=adaptare/bin/python'
        )

    def _typed(self, words: Sequence[str]) -> str:
        command = shlex.join(words)
        return f'{self.by_hand} "{command}"' if "'" in command else f"{self.by_hand} {command}"


def python_link(shell: RemoteShell, runtime: str, remote: RemotePython) -> Link:
    """Prepares the agent on a device.

    Args:
        shell: Connection to the device.
        runtime: See `Transport.linked`.
        remote: Its Python.

    Raises:
        DeviceError: The connection failed, or Python is missing or too old.
        MissingPackageError: The runtime needs adaptare there, in the version of this machine.
    """
    packages = required(runtime)
    installed = any(package.startswith("adaptare") for package in packages)
    prepare_folder(shell)
    with tempfile.TemporaryDirectory(prefix="adaptare-") as place:
        file = Path(place) / "agent.pyz"
        write_agent(file)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        target = f"{shell.folder}/agents/{digest}.pyz"
        answer = shell.run(PROBED, remote.python, FACTS, target)
        present, _, told = answer.out.partition("\n")
        if answer.code == NO_SUCH_COMMAND:
            raise DeviceError(
                f"{remote.device}: there is no {remote.python!r}; install Python 3.9 or newer on the device, or name "
                "one by the device's option python=PATH"
            )
        try:
            facts = json.loads(told)
        except ValueError as error:
            said = reason(answer, shell.name) if answer.code else repr(answer.out[:200])
            raise DeviceError(f"{remote.device}: {remote.python!r} is no working Python; it said: {said}") from error
        version = ".".join(map(str, facts["version"]))
        if tuple(facts["version"]) < OLDEST:
            raise DeviceError(
                f"{remote.device}: {remote.python!r} is Python {version}; the agent needs 3.9 or newer; name another "
                "one by the device's option python=PATH"
            )
        here = metadata.version("adaptare")
        if installed and facts["adaptare"] != here:
            there = f"is {facts['adaptare']}" if facts["adaptare"] else "is not installed"
            packages = [f"{package}=={here}" for package in packages]
            raise MissingPackageError(
                f"{remote.device} runs functions of adaptare, which {there} on the device and {here} here; "
                f"{remote.install(packages, facts['managed'])}"
            )
        if not installed and present != "present":
            try:
                shell.put(file, target, digest)
            except OSError as error:
                raise DeviceError(f"the agent could not be brought to the device: {error}") from error

    def bring(file: ProgramFile) -> None:
        shell.put(file.path, f"{shell.folder}/files/{file.digest}", file.digest)

    def install(package: str) -> str:
        known = any(package in requirement for requirement in packages)
        return remote.install(packages, facts["managed"]) if known else ""

    agent = ["-m", "adaptare.devices.agent"] if installed else [target]
    command = shell.command(STARTED, remote.python, *agent, runtime, shell.folder)
    return Link(command, bring, local_environment(), shell.cause, install)


def required(runtime: str) -> Sequence[str]:
    """Packages that the device needs for a runtime, spelled `module:class`, as requirements for pip."""
    module, _, name = runtime.partition(":")
    try:
        packages: Sequence[str] = getattr(importlib.import_module(module), name).packages
    except (ImportError, AttributeError):  # a runtime from outside, which is installed where it runs
        return ("adaptare",)
    return packages
