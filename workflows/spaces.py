"""Spaces by name or from YAML files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from adaptare.core import InputError
from adaptare.profiler import ModelShape, Space, named_space, read_space
from adaptare.profiler.workloads import DEFAULT_RANKS

_SUFFIXES: Final = (".yaml", ".yml")


def is_space_file(space: str) -> bool:
    """True if a space is the path of a YAML file rather than a name."""
    return Path(space).suffix in _SUFFIXES


def space_of(space: str, shape: ModelShape, *, ranks: Sequence[int] | None = None, layers_alike: bool = False) -> Space:
    """Space by name and ranks, with equal layers if required, or from a YAML file, which defines its ties itself.

    Raises:
        InputError: There is no such space or file, or ranks are given for a file.
    """
    if is_space_file(space):
        if ranks is not None:
            raise InputError(f"{space} defines its own ranks; leave out ranks, or change them there")
        return read_space(space, shape)
    return named_space(space, shape, ranks=DEFAULT_RANKS if ranks is None else ranks, layers_alike=layers_alike)
