"""What the agent uses to load programs that are torch modules: `module:factory` with JSON arguments."""

import importlib
from collections.abc import Callable
from typing import Any

CALL = "adaptare.call"


def setup(options: dict[str, Any]) -> None:
    """Fixes the number of threads before any operator has run."""
    import torch

    torch.set_num_threads(options["threads"])
    torch.set_num_interop_threads(1)


def prepare(source: str) -> None:
    """Imports the factory, with the libraries that it needs: hundreds of megabytes that are no program's."""
    importlib.import_module(source.partition(":")[0])


def load(source: str, arguments: dict[str, Any], copy: int = 0) -> Any:
    """Builds what the factory builds; factories of programs that can be cold take the number of a copy."""
    module, _, factory = source.partition(":")
    return getattr(importlib.import_module(module), factory)(**arguments, **({"copy": copy} if copy else {}))


def providers(model: Any) -> dict[str, int]:
    """Torch runs every module itself."""
    return {"torch": 1}


def attribute(
    source: str, arguments: dict[str, Any], feed: dict[str, Any], timed: Callable[..., list[float]]
) -> tuple[list[float], list[dict[str, list[float]]]]:
    """See the agent. Operators call each other (`aten::linear` calls `aten::addmm`), and each has its own time only."""
    from torch import profiler

    call, restore = load(source, arguments).bind(feed)

    def marked() -> None:
        with profiler.record_function(CALL):
            call()

    with profiler.profile(activities=[profiler.ProfilerActivity.CPU]) as profile:
        seconds = timed(marked, restore)
    return seconds, _operators(profile.events())


def _operators(events: Any) -> list[dict[str, list[float]]]:
    """Calls and seconds by operator, for each marked call in their order."""
    marks = sorted((event for event in events if event.name == CALL), key=lambda event: event.time_range.start)
    found: dict[int, dict[str, list[float]]] = {id(mark): {} for mark in marks}
    for event in events:
        root = event
        while root.cpu_parent is not None:
            root = root.cpu_parent
        if id(root) not in found or event is root:
            continue
        operator = found[id(root)].setdefault(event.name, [0, 0.0])
        operator[0] += 1
        operator[1] += 1e-6 * event.self_cpu_time_total
    return list(found.values())
