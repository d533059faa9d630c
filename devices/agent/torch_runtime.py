"""Programs that are torch modules: `module:factory` with JSON arguments."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import Any

from adaptare.devices.agent.accelerator import Accelerator
from adaptare.devices.agent.runtime import AbsentError, Bound, Model, Operators, RuntimeFacts, Timed

CALL = "adaptare.call"
COMPILERS = ("g++", "clang++", "gcc", "clang", "cl")
# All programs of a worker count together, and beyond the limit they would run uncompiled.
COMPILED_PROGRAMS = 2**20


class TorchRuntime:
    """Runtime of torch. Factories return an object with `bind`.

    Factories take `folder` if their programs have files, `copy` if their programs can be cold, `device` if they run on
    an accelerator, and `compiled` if they can be compiled. Options: `kind` and `index` of an accelerator (`cpu`: none),
    `graphs` and `compile`.
    """

    packages = ("adaptare[torch]",)
    # Replaced by tests, which have no accelerator.
    accelerators: Callable[[str, int], Any] = Accelerator

    def __init__(self) -> None:
        self._threads = 1
        self._accelerator: Any = None
        self._graphs = self._compiles = False

    def setup(self, threads: int, options: Mapping[str, Any]) -> RuntimeFacts:
        """Applies the options; imports torch only if it needs to be asked for an accelerator."""
        self._threads = threads
        kind = options.get("kind", "cpu")
        self._graphs, self._compiles = options.get("graphs", False), options.get("compile", False)
        if kind != "cpu":
            self._accelerator = type(self).accelerators(kind, options.get("index", 0))
        if self._compiles and not any(map(shutil.which, [os.environ.get("CXX", ""), *COMPILERS])):
            raise AbsentError("compile=yes needs a C++ compiler, and there is none; install one: apt install g++")
        try:
            return RuntimeFacts(f"torch {metadata.version('torch')}", accelerator=self._accelerator)
        except metadata.PackageNotFoundError as error:
            raise ModuleNotFoundError("torch is not installed", name="torch") from error

    def prepare(self, source: str) -> None:
        """Imports the factory, and libraries of hundreds of megabytes shared by all programs."""
        import torch

        torch.set_num_threads(self._threads)
        if self._compiles:
            config: Any = torch._dynamo.config
            config.recompile_limit = config.accumulated_recompile_limit = COMPILED_PROGRAMS
        importlib.import_module(source.partition(":")[0])

    def load(self, folder: str, source: str, arguments: Mapping[str, Any], copy: int = 0) -> Model:
        """Calls a factory.

        Args:
            folder: Folder with the files of the program.
            source: `module:factory`.
            arguments: Arguments of the factory. `prepared: false` is none of them: it compiles and captures nothing,
                for programs that run once and are not timed.
            copy: Passed to the factory if it is not 0.
        """
        module, _, factory = source.partition(":")
        made = getattr(importlib.import_module(module), factory)
        own = {name: value for name, value in arguments.items() if name != "prepared"}
        prepared = arguments.get("prepared", True)
        compiled = self._compiles and prepared
        given: dict[str, Any] = {"folder": folder} if os.listdir(folder) else {}
        given |= {"copy": copy} if copy else {}
        given |= {"device": self._accelerator.device} if self._accelerator else {}
        given |= {"compiled": True} if compiled else {}
        captured = self._accelerator.captured if self._graphs and prepared else None
        return TorchModel(made(**own, **given), captured=captured, compiled=compiled)

    def attribute(
        self, folder: str, source: str, arguments: Mapping[str, Any], feed: Mapping[str, Any], timed: Timed
    ) -> tuple[Sequence[float], Sequence[Operators]]:
        """Profiles the calls. Operators are nested (`aten::linear` calls `aten::addmm`): times are exclusive.

        Those of an accelerator are the times of the kernels that an operator issues.

        Raises:
            ValueError: The kernels of a graph cannot be attributed to operators, nor those of `mps`.
        """
        self.prepare(source)
        from torch import profiler

        supported: Any = profiler.supported_activities
        activities = {activity.name.lower(): activity for activity in supported()}
        kind = self._accelerator.device.partition(":")[0] if self._accelerator else "cpu"
        if self._graphs or kind not in activities:
            why = "of a graph; leave graphs=yes out" if self._graphs else f"on {kind}; take the times of torch-cpu"
            raise ValueError(f"torch's profiler does not attribute operators {why}")
        call, restore = self.load(folder, source, arguments).bind(feed)

        def marked() -> None:
            with profiler.record_function(CALL):
                call()

        with profiler.profile(activities=[activities[name] for name in sorted({"cpu", kind})]) as profile:
            seconds = timed(marked, restore)
        own_time = "self_device_time_total" if self._accelerator else "self_cpu_time_total"
        return seconds, _operators(profile.events(), own_time)


class TorchModel:
    """A module as created by its factory; all of it runs in torch.

    Args:
        captured: Turns a call and its restore function into the replay of a graph; default: calls are not captured.
        compiled: True if the factory compiled it, as a whole.
    """

    def __init__(self, built: Any, *, captured: Callable[..., Any] | None = None, compiled: bool = False) -> None:
        self._built = built
        self._captured = captured
        self._provider = "inductor" if compiled else "torch"

    def bind(self, arguments: Mapping[str, Any]) -> Bound:
        """Binds a feed in the module, and captures its call if asked to."""
        call, restore = self._built.bind(arguments)
        # The restore function also keeps alive all that a graph reads.
        return (self._captured(call, restore) if self._captured else call), restore

    def nodes(self) -> Mapping[str, int]:
        """One node, of the module as a whole."""
        return {self._provider: 1}


def _operators(events: Any, own_time: str) -> list[dict[str, list[float]]]:
    """Calls and seconds by operator, for each marked call, in order.

    Args:
        events: Events of a profile.
        own_time: Their attribute with the time of an operator itself, microseconds.
    """
    marks = sorted((event for event in events if event.name == CALL), key=lambda event: event.time_range.start)
    by_call: dict[int, dict[str, list[float]]] = {id(mark): {} for mark in marks}
    for event in events:
        root = event
        while root.cpu_parent is not None:
            root = root.cpu_parent
        if id(root) not in by_call or event is root:
            continue
        operator = by_call[id(root)].setdefault(event.name, [0, 0.0])
        operator[0] += 1
        operator[1] += 1e-6 * getattr(event, own_time)
    return list(by_call.values())
