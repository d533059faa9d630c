"""Start of the agent in the Python of a device, as one file or as an installed package."""

import hashlib
import importlib
import json
import shlex
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from adaptare.core import DeviceError, MissingPackageError, StorageError
from adaptare.devices import agent
from adaptare.devices.transport import AGENT_VARIABLES, Link
from adaptare.devices.transports.remote_shell import RemoteShell, agent_link, prepare_folder, reason, send_agent

PACKAGES = ("adaptare", "adaptare/devices")
# A constant timestamp makes files with equal contents identical.
NEVER_CHANGED = (1980, 1, 1, 0, 0, 0)
START = "import runpy\n\nrunpy.run_module('adaptare.devices.agent', run_name='__main__', alter_sys=True)\n"
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
[ -f "$3" ] && echo yes || echo no
"$1" -c "$2"
"""
# The shell stays, because its exit code reports a signal. Arguments: the command.
STARTED = "".join(f"export {name}={value}\n" for name, value in AGENT_VARIABLES.items()) + '"$@"\nexit $?\n'


def write_agent(file: Path) -> None:
    """Writes the agent as a file for Python: `python FILE MODULE:RUNTIME FOLDER`. Raises `StorageError`.

    It needs Python 3.9 or newer and the packages of its runtime: numpy and onnxruntime for ONNX files.
    """
    folder = Path(agent.__file__).parent
    contents = {f"adaptare/devices/agent/{source.name}": source.read_text("utf-8") for source in folder.glob("*.py")}
    contents |= {f"{package}/__init__.py": "" for package in PACKAGES} | {"__main__.py": START}
    try:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
            for name in sorted(contents):
                packed.writestr(zipfile.ZipInfo(name, NEVER_CHANGED), contents[name], zipfile.ZIP_DEFLATED)
    except OSError as error:
        raise StorageError(f"the agent cannot be written to {str(file)!r}: {error}; name another file") from error


@dataclass(frozen=True)
class PythonAgent:
    """An agent in a Python on a device.

    Args:
        python: Command that starts Python there.
        by_hand: Command with which a user runs a command there, for messages.
    """

    shell: RemoteShell
    python: str
    by_hand: str

    def link(self, runtime: str) -> Link:
        """Prepares the agent with a runtime, spelled as in `Transport.linked`.

        Raises:
            DeviceError: The connection failed, Python is missing or too old, or the device refuses the agent.
            MissingPackageError: The runtime needs adaptare there, in the version of this machine.
        """
        shell, packages = self.shell, required(runtime)
        prepare_folder(shell)
        with tempfile.TemporaryDirectory(prefix="adaptare-") as place:
            file = Path(place) / "agent.pyz"
            write_agent(file)
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            target = f"{shell.folder}/agents/{digest}.pyz"
            managed, installed, has_agent = self._facts(target)
            if any(package.startswith("adaptare") for package in packages):
                self._check_installed(installed, packages, managed)
                agent = ["-m", "adaptare.devices.agent"]
            else:
                agent = [target]
                if not has_agent:
                    send_agent(shell, file, target, digest, named="the agent")

        def install(module: str) -> str:
            package = module.replace("_", "-")
            return self._install(packages, managed) if any(package in requirement for requirement in packages) else ""

        command = shell.command(STARTED, self.python, *agent, runtime, shell.folder)
        return agent_link(shell, command, install)

    def _facts(self, agent: str) -> tuple[bool, str, bool]:
        """True if its system manages this Python; version of its adaptare, or empty; true if it has the agent."""
        answer = self.shell.run(PROBED, self.python, FACTS, agent)
        where = f"{self.shell.name}: {self.python!r}"
        if answer.code == NO_SUCH_COMMAND:
            raise DeviceError(
                f"{where} does not exist there; install Python 3.9 or newer on the device, or name another one by the "
                "device's option python=PATH"
            )
        has_agent, _, facts = answer.out.partition("\n")
        try:
            content = json.loads(facts)
            version, managed, adaptare = tuple(content["version"]), content["managed"], content["adaptare"]
        except (ValueError, KeyError, TypeError) as error:
            output = reason(answer) if answer.code else repr(answer.out[:200])
            raise DeviceError(f"{where} is no working Python; its output: {output}") from error
        if version < OLDEST:
            raise DeviceError(
                f"{where} is Python {'.'.join(map(str, version))}, and the agent needs 3.9 or newer; name another one "
                "by the device's option python=PATH"
            )
        return managed, adaptare, has_agent == "yes"

    def _check_installed(self, installed: str, packages: Sequence[str], managed: bool) -> None:
        here = metadata.version("adaptare")
        if installed == here:
            return
        there = f"has adaptare {installed}" if installed else "lacks adaptare"
        raise MissingPackageError(
            f"{self.shell.name} {there}, and this runtime needs adaptare {here} there, the version of this machine; "
            f"{self._install([f'{package}=={here}' for package in packages], managed)}"
        )

    def _install(self, packages: Sequence[str], managed: bool) -> str:
        """Advice to install packages."""
        if not managed:
            command = shlex.join([self.python, "-m", "pip", "install", *packages])
            return f'install it on the device with: {self.by_hand} "{command}"'
        made, filled = f"{self.python} -m venv adaptare", shlex.join(["adaptare/bin/pip", "install", *packages])
        return (
            "its Python takes packages only in a virtual environment; make one with: "
            f'{self.by_hand} "{made} && {filled}", and give the device the option python=adaptare/bin/python'
        )


def required(runtime: str) -> Sequence[str]:
    """Packages that the device needs for a runtime, spelled `module:class`, as requirements for pip."""
    module, _, name = runtime.partition(":")
    try:
        packages: Sequence[str] = getattr(importlib.import_module(module), name).packages
    except (ImportError, AttributeError):  # a runtime from outside, which is installed where it runs
        return ("adaptare",)
    return packages
