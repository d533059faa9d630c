"""Another Python of this machine, which need not have adaptare."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from adaptare.core import InputError
from adaptare.devices.transport import Link, Transport, ended_by, is_native
from adaptare.devices.transports.python_agent import PythonAgent
from adaptare.devices.transports.remote_shell import Answer, run_command

# Variables that make one Python look for the packages of another.
OF_ONE_PYTHON = ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV")


@dataclass(frozen=True)
class LocalShell:
    """Shell of this machine, with a folder of its own; files are linked, not copied."""

    folder: str
    name: str = "this machine"

    def command(self, script: str, *arguments: str) -> list[str]:
        return ["sh", "-c", script, "sh", *arguments]

    def run(self, script: str, *arguments: str, timeout_s: float = 60.0) -> Answer:
        failed = f"{self.name}: no shell answers within {timeout_s:.0f} s"
        command, environment = self.command(script, *arguments), other_environment()
        return run_command(command, timeout_s=timeout_s, late=failed, missing=failed, environment=environment)

    def put(self, source: Path, target: str, digest: str) -> None:
        place = Path(target)
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.name.endswith(".pyz"):  # of the host's folder for it, which is removed
            place.write_bytes(source.read_bytes())
        else:
            place.unlink(missing_ok=True)  # a link whose file is gone
            place.symlink_to(source.resolve())

    def cause(self, code: int) -> str:
        return ended_by(code)


class LocalPython(Transport):
    """Runs agents in another Python of this machine, given by its command or path."""

    def __init__(self, python: str) -> None:
        if not python or python.startswith("-"):
            raise InputError(f"python must be a command or a path, not {python!r}")
        self._python = python
        self.options = {"python": python}

    @contextmanager
    def linked(self, runtime: str) -> Iterator[Link]:
        """Prepares an agent. Raises `MissingPackageError`, and `InputError` for a runtime that is not of Python."""
        if is_native(runtime):
            raise InputError("ort-native runs no Python; leave python= out")
        with tempfile.TemporaryDirectory(prefix="adaptare-") as folder:
            link = PythonAgent(LocalShell(folder), self._python, "sh -c").link(runtime)
            yield replace(link, environment=other_environment(link.environment))


def other_environment(variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Environment variables without those of this Python."""
    return {name: value for name, value in variables.items() if name not in OF_ONE_PYTHON}
