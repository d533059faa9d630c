"""The contract between the agent and a library that loads and runs programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

Bound = tuple[Callable[[], Any], Callable[[], None]]
Timed = Callable[[Callable[[], Any], Callable[[], None]], Sequence[float]]
Operators = Mapping[str, Sequence[float]]


class Model(Protocol):
    """A loaded program."""

    def bind(self, arguments: Mapping[str, Any]) -> Bound:
        """Makes one set of inputs ready.

        Returns:
            The timed call, which gives the first output as numbers or as something with `tolist()`; and what restores
            the state before each call.
        """
        ...

    def nodes(self) -> Mapping[str, int]:
        """Number of nodes that each execution provider runs."""
        ...


class Runtime(Protocol):
    """Loads programs with one library. Every method may raise; the agent answers with the error's own words."""

    def setup(self, threads: int, options: Mapping[str, Any]) -> None:
        """Checks the options of the device and fixes them, with the number of threads, for all programs."""
        ...

    def version(self) -> str:
        """Name and version of the library, for example `onnxruntime 1.32.0`; the name selects who builds programs."""
        ...

    def providers(self) -> Sequence[str]:
        """Execution providers of the installed library; none where it has no such notion."""
        ...

    def prepare(self, source: str) -> None:
        """Imports what loading needs, before seconds and bytes of a program are counted."""
        ...

    def load(self, folder: str, source: str, arguments: Mapping[str, Any], copy: int) -> Model:
        """Loads a program.

        Args:
            folder: Holds the program's files by their names.
            source: The main file, or `module:factory`.
            arguments: As in `Program.arguments`.
            copy: Copies of a program, numbered from 0, share no weights; those of one number may.
        """
        ...

    def mapped_bytes(self, folder: str, source: str) -> int:
        """Largest number of bytes that loading maps from files instead of allocating them."""
        ...

    def attribute(
        self, folder: str, source: str, arguments: Mapping[str, Any], feed: Mapping[str, Any], timed: Timed
    ) -> tuple[Sequence[float], Sequence[Operators]]:
        """Loads a program with the library's profiler on and calls `timed(call, restore)` once.

        Returns:
            Seconds of each call, and of each call `{kind of operator: [calls, seconds]}`.
        """
        ...
