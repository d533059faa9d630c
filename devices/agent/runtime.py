"""Contract between the agent and a library that loads and runs programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from adaptare.devices.agent.machine import Machine
from adaptare.devices.agent.place import Place

Bound = tuple[Callable[[], Any], Callable[[], None]]
Timed = Callable[[Callable[[], Any], Callable[[], None]], Sequence[float]]
Operators = Mapping[str, Sequence[float]]


class AbsentError(Exception):
    """The device is not there, or this installation cannot use it; the message says what to do."""


class Model(Protocol):
    """A loaded program."""

    def bind(self, arguments: Mapping[str, Any]) -> Bound:
        """Prepares one set of inputs.

        Returns:
            The timed call, which returns the first output as numbers or an object with `tolist()`; and the function
            that restores the state before each call.
        """
        ...

    def nodes(self) -> Mapping[str, int]:
        """Number of nodes per execution provider."""
        ...


class Runtime(Protocol):
    """Loads programs with one library. Every method may raise; the agent replies with the error's message.

    A class that has no `packages` needs its own package and adaptare, both installed on the device.
    """

    @property
    def packages(self) -> Sequence[str]:
        """Requirements of the device, as for pip; with adaptare among them, its agent is used instead of a file."""
        ...

    def setup(self, threads: int, options: Mapping[str, Any]) -> None:
        """Validates the options of the device, and applies them and the number of threads to all programs.

        Raises:
            ValueError: The library does not support the options.
            AbsentError: The device is not there.
        """
        ...

    def place(self, machine: Machine) -> Place:
        """Processors or accelerator that the programs run on, after `setup`."""
        ...

    def version(self) -> str:
        """Name and version of the library, for example `onnxruntime 1.32.0`; the name selects the program builder."""
        ...

    def providers(self) -> Sequence[str]:
        """Execution providers of the installed library; empty if the library has none."""
        ...

    def prepare(self, source: str) -> None:
        """Imports the packages needed for loading, before time and memory of a program are measured."""
        ...

    def load(self, folder: str, source: str, arguments: Mapping[str, Any], copy: int) -> Model:
        """Loads a program.

        Args:
            folder: Folder with the program's files under their names.
            source: The main file, or `module:factory`.
            arguments: As in `Program.arguments`.
            copy: Copies of a program, numbered from 0, share no weights; programs with equal numbers may.
        """
        ...

    def mapped_bytes(self, folder: str, source: str) -> int:
        """Maximum bytes that loading maps from files instead of allocating them."""
        ...

    def attribute(
        self, folder: str, source: str, arguments: Mapping[str, Any], feed: Mapping[str, Any], timed: Timed
    ) -> tuple[Sequence[float], Sequence[Operators]]:
        """Loads a program under the library's profiler and calls `timed(call, restore)` once.

        Returns:
            Seconds of each call, and for each call `{operator type: [calls, seconds]}`.
        """
        ...
