"""A runtime without any library: what the agent itself does is seen at once."""

import importlib
from collections.abc import Mapping
from typing import Any

from adaptare.devices.agent.runtime import RuntimeFacts


class PlainRuntime:
    """A runtime whose programs are `module:factory` of plain Python."""

    def setup(self, threads: int, options: Mapping[str, Any]) -> RuntimeFacts:
        """Fails if asked to."""
        if options.get("broken"):
            raise RuntimeError("this runtime is out of order")
        return RuntimeFacts("plain 1")

    def load(self, folder: str, source: str, arguments: Mapping[str, Any], copy: int = 0) -> Any:
        """Builds what the factory builds."""
        module, _, factory = source.partition(":")
        return PlainModel(getattr(importlib.import_module(module), factory)(**arguments))


class ImportingRuntime(PlainRuntime):
    """Imports the modules of its programs before they are loaded."""

    def prepare(self, source: str) -> None:
        """Imports the module of a factory."""
        importlib.import_module(source.partition(":")[0])


class PlainModel:
    """What a factory built; everything is Python."""

    def __init__(self, built: Any) -> None:
        self.bind = built.bind

    def nodes(self) -> Mapping[str, int]:
        """One, run by Python."""
        return {"python": 1}
