"""What the agent uses to load programs that are torch modules: `module:factory` with JSON arguments."""

import importlib
from typing import Any


def setup(options: dict[str, Any]) -> None:
    """Fixes the number of threads before any operator has run."""
    import torch

    torch.set_num_threads(options["threads"])
    torch.set_num_interop_threads(1)


def prepare(source: str) -> None:
    """Imports the factory, with the libraries that it needs: hundreds of megabytes that are no program's."""
    importlib.import_module(source.partition(":")[0])


def load(source: str, arguments: dict[str, Any]) -> Any:
    """Builds what the factory builds."""
    module, _, factory = source.partition(":")
    return getattr(importlib.import_module(module), factory)(**arguments)


def providers(model: Any) -> dict[str, int]:
    """Torch runs every module itself."""
    return {"torch": 1}
