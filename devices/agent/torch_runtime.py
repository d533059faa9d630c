"""Programs that are torch modules: `module:factory` with JSON arguments."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from adaptare.devices.agent.runtime import Bound, Model, Operators, Timed

CALL = "adaptare.call"


class TorchRuntime:
    """See `Runtime`. Factories return an object with `bind`.

    Factories take `folder` if their programs have files, and `copy` if their programs can be cold.
    """

    packages = ("adaptare[torch]",)

    def __init__(self) -> None:
        self._threads = 1

    def setup(self, threads: int, options: Mapping[str, Any]) -> None:
        """See `Runtime.setup`."""
        self._threads = threads

    def version(self) -> str:
        """See `Runtime.version`; determined without importing torch."""
        try:
            return f"torch {metadata.version('torch')}"
        except metadata.PackageNotFoundError as error:
            raise ModuleNotFoundError("torch is not installed", name="torch") from error

    def providers(self) -> Sequence[str]:
        """See `Runtime.providers`."""
        return []

    def prepare(self, source: str) -> None:
        """See `Runtime.prepare`: imports the factory, and libraries of hundreds of megabytes shared by all programs."""
        import torch

        torch.set_num_threads(self._threads)
        importlib.import_module(source.partition(":")[0])

    def load(self, folder: str, source: str, arguments: Mapping[str, Any], copy: int = 0) -> Model:
        """See `Runtime.load`."""
        module, _, factory = source.partition(":")
        made = getattr(importlib.import_module(module), factory)
        given: dict[str, Any] = {"folder": folder} if os.listdir(folder) else {}
        return TorchModel(made(**arguments, **given, **({"copy": copy} if copy else {})))

    def mapped_bytes(self, folder: str, source: str) -> int:
        """See `Runtime.mapped_bytes`: checkpoints are mapped."""
        return sum(os.stat(os.path.join(folder, name)).st_size for name in os.listdir(folder))

    def attribute(
        self, folder: str, source: str, arguments: Mapping[str, Any], feed: Mapping[str, Any], timed: Timed
    ) -> tuple[Sequence[float], Sequence[Operators]]:
        """See `Runtime.attribute`. Operators are nested (`aten::linear` calls `aten::addmm`): times are exclusive."""
        self.prepare(source)
        from torch import profiler

        call, restore = self.load(folder, source, arguments).bind(feed)

        def marked() -> None:
            with profiler.record_function(CALL):
                call()

        with profiler.profile(activities=[profiler.ProfilerActivity.CPU]) as profile:
            seconds = timed(marked, restore)
        return seconds, _operators(profile.events())


class TorchModel:
    """A module as created by its factory; all of it runs in torch."""

    def __init__(self, built: Any) -> None:
        self._built = built

    def bind(self, arguments: Mapping[str, Any]) -> Bound:
        """See `Model.bind`."""
        bound: Bound = self._built.bind(arguments)
        return bound

    def nodes(self) -> Mapping[str, int]:
        """See `Model.nodes`."""
        return {"torch": 1}


def _operators(events: Any) -> list[dict[str, list[float]]]:
    """Calls and seconds by operator, for each marked call, in order."""
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
