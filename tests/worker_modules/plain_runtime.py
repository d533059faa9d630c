"""A runtime without any library: what the agent itself does is seen at once."""

import importlib
from typing import Any


def setup(options: dict[str, Any]) -> None:
    """Fails if asked to."""
    if options.get("broken"):
        raise RuntimeError("this runtime is out of order")


def load(source: str, arguments: dict[str, Any], copy: int = 0) -> Any:
    """Builds what the factory builds."""
    module, _, factory = source.partition(":")
    return getattr(importlib.import_module(module), factory)(**arguments)


def providers(model: Any) -> dict[str, int]:
    """Everything is Python."""
    return {"python": 1}
