"""A runtime without any library: what the agent itself does is seen at once."""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from adaptare.devices.agent.machine import Machine
from adaptare.devices.agent.place import Host


class PlainRuntime:
    """See `adaptare.devices.Runtime`; programs are `module:factory` of plain Python."""

    def setup(self, threads: int, options: Mapping[str, Any]) -> None:
        """Fails if asked to."""
        if options.get("broken"):
            raise RuntimeError("this runtime is out of order")

    def place(self, machine: Machine) -> Host:
        """The machine itself."""
        return Host(machine)

    def version(self) -> str:
        """Of no library."""
        return "plain 1"

    def providers(self) -> Sequence[str]:
        """Has none."""
        return []

    def prepare(self, source: str) -> None:
        """Has nothing to import."""

    def load(self, folder: str, source: str, arguments: Mapping[str, Any], copy: int = 0) -> Any:
        """Builds what the factory builds."""
        module, _, factory = source.partition(":")
        return PlainModel(getattr(importlib.import_module(module), factory)(**arguments))

    def mapped_bytes(self, folder: str, source: str) -> int:
        """Maps nothing."""
        return 0


class PlainModel:
    """What a factory built; everything is Python."""

    def __init__(self, built: Any) -> None:
        self.bind = built.bind

    def nodes(self) -> Mapping[str, int]:
        """One, run by Python."""
        return {"python": 1}
