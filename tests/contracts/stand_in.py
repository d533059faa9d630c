"""A remote stand-in: the one-file agent with another root, on copies of files, in a Python that has no adaptare."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from adaptare.devices import Link, ProgramFile, Transport
from adaptare.devices.transports.python_agent import write_agent

HARDWARE = "Stand-in 64 core 0"
CACHE_BYTES = 12345 * 1024
FREE_BYTES = 777 * 2**20
SYSTEM = {
    "proc/cpuinfo": f"processor\t: 0\nmodel name\t: {HARDWARE}\n",
    "proc/meminfo": f"MemTotal: 2000000 kB\nMemAvailable: {FREE_BYTES // 1024} kB\n",
    "sys/kernel/mm/transparent_hugepage/enabled": "never",
    "sys/class/power_supply/cell/type": "Battery",
    "sys/class/power_supply/cell/capacity": "61",
}
# Of every processor: one core with one cache, whatever the host has.
PROCESSOR = {
    "topology/thread_siblings_list": "0-8191",
    "cache/index0/size": "32K",
    "cache/index0/shared_cpu_list": "0-8191",
    "cache/index3/size": f"{CACHE_BYTES // 1024}K",
    "cache/index3/shared_cpu_list": "0-8191",
}


class StandIn(Transport):
    """A transport that copies bytes, as scp does, and starts `python agent.pyz RUNTIME FOLDER ROOT`.

    Args:
        place: Everything of the other machine lies below it.
        processors: Of this process; the other machine has as many.
    """

    def __init__(self, place: Path, processors: list[int]) -> None:
        self.brought: list[str] = []
        self.storage = place / "storage"
        self._agent, self._root, self._packages = place / "agent.pyz", place / "root", place / "packages"
        place.mkdir(exist_ok=True)
        write_agent(self._agent)
        for name, content in SYSTEM.items():
            _write(self._root / name, content)
        for name, content in PROCESSOR.items():
            for processor in processors:
                _write(self._root / f"sys/devices/system/cpu/cpu{processor}" / name, content)
        self._packages.mkdir()
        for package in Path(np.__file__).parents[1].iterdir():
            if "adaptare" not in package.name and package.suffix != ".pth":
                (self._packages / package.name).symlink_to(package)

    @contextmanager
    def linked(self, runtime: str) -> Iterator[Link]:
        def bring(file: ProgramFile) -> None:
            self.brought.append(file.name)
            (self.storage / "files" / file.digest).write_bytes(file.path.read_bytes())

        command = [*self.python, str(self._agent), runtime, str(self.storage), str(self._root)]
        yield Link(command, bring, self.environment)

    @property
    def python(self) -> list[str]:
        """An interpreter without site-packages, those of the user and `.pth` files."""
        return [sys.executable, "-S", "-s"]

    @property
    def environment(self) -> dict[str, str]:
        """Lets that interpreter import what is installed here, except for adaptare."""
        return {"PYTHONPATH": str(self._packages)}


def _write(file: Path, content: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content, encoding="utf-8")
