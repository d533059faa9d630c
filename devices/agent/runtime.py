"""Contract between the agent and a library that loads and runs programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

Bound = tuple[Callable[[], Any], Callable[[], None]]
Timed = Callable[[Callable[[], Any], Callable[[], None]], Sequence[float]]
Operators = Mapping[str, Sequence[float]]


class AbsentError(Exception):
    """The device is not there, or this installation cannot use it; the message says what to do."""


class Output:
    """First output of the last call, read on demand.

    Args:
        read: Returns it as an array.
        kept: Objects that must live as long as the call, such as inputs whose memory a library does not own.
    """

    def __init__(self, read: Callable[[], Any], *kept: Any) -> None:
        self._read, self._kept = read, kept

    def tolist(self) -> list[float]:
        """All values, flat."""
        values: list[float] = self._read().ravel().tolist()
        return values


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


class RuntimeFacts(NamedTuple):
    """Facts about a library after its setup.

    Attributes:
        version: Name and version, for example `onnxruntime 1.32.0`; the name selects the program builder.
        providers: Execution providers of the installed library; empty if it has none.
        accelerator: `Accelerator`, or an object with its methods, that programs run on; default: the processors.
    """

    version: str
    providers: Sequence[str] = ()
    accelerator: Any = None


class Runtime(Protocol):
    """Loads programs with one library. Both methods may raise; the agent replies with the error's message.

    `packages`, a class attribute, lists the requirements of a device as for pip. A runtime without it, or with adaptare
    among them, needs its own package and adaptare on the device; others need only the agent, which is one file.
    """

    def setup(self, threads: int, options: Mapping[str, Any]) -> RuntimeFacts:
        """Validates the options of the device, and applies them and the number of threads to all programs.

        Raises:
            ValueError: The library does not support the options.
            AbsentError: The device is not there.
        """
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


@runtime_checkable
class PreparedRuntime(Runtime, Protocol):
    """A runtime with packages to import before time and memory of a program are measured."""

    def prepare(self, source: str) -> None:
        """Imports the packages needed for loading a program."""
        ...


@runtime_checkable
class AttributingRuntime(Runtime, Protocol):
    """A runtime whose library attributes time to operators."""

    def attribute(
        self, folder: str, source: str, arguments: Mapping[str, Any], feed: Mapping[str, Any], timed: Timed
    ) -> tuple[Sequence[float], Sequence[Operators]]:
        """Loads a program under the library's profiler and calls `timed(call, restore)` once.

        Returns:
            Seconds of each call, and for each call `{operator type: [calls, seconds]}`.
        """
        ...
