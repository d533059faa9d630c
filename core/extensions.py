"""Classes and functions that installed packages register as entry points."""

import difflib
import importlib.metadata
import sys
from collections.abc import Collection
from functools import cache
from typing import Any, TypeVar

from adaptare.core.errors import InputError
from adaptare.core.lazy_names import missing_package

Registered = TypeVar("Registered")


def extensions(group: str) -> dict[str, importlib.metadata.EntryPoint]:
    """Entry points of a group, by name in alphabetical order."""
    return {entry.name: entry for entry in sorted(_entries(group, tuple(sys.path)), key=lambda entry: entry.name)}


@cache
def _entries(group: str, path: tuple[str, ...]) -> importlib.metadata.EntryPoints:
    """Entry points of the packages on this path; finding them reads a file of each."""
    return importlib.metadata.entry_points(group=group)


def extension(group: str, name: str, *, kind: str, others: Collection[str] = ()) -> Any:
    """The registered object of this name.

    Args:
        group: Group of entry points, such as `adaptare.regressors`.
        name: Name of the entry point.
        kind: Word for the message, such as `regressor`.
        others: Names that the caller knows beside the entry points, for the message.

    Raises:
        InputError: No installed package registers the name, or the one that does cannot be loaded.
        ModuleNotFoundError: An optional package of adaptare is not installed.
    """
    entries = extensions(group)
    if name not in entries:
        names = sorted((*entries, *others))
        known = ", ".join(names) or "none"
        raise InputError(f"unknown {kind} {name!r}; installed packages register {known}{nearest(name, names)}")
    try:
        return entries[name].load()
    except (ImportError, AttributeError) as error:
        if missing_package(error):
            raise
        raise InputError(
            f"the {kind} {name!r} cannot be loaded ({error}); reinstall or remove the package that registers it"
        ) from error


def named_extension(group: str, name: str, of: type[Registered], *, kind: str) -> Registered:
    """The registered object of this name, which must be of a class and have that name; raises as `extension`."""
    found = extension(group, name, kind=kind)
    if not isinstance(found, of) or getattr(found, "name", None) != name:
        raise InputError(
            f"the entry point {name!r} in the group {group} must be of {of.__name__} with name={name!r}, not "
            f"{found!r}; reinstall or remove the package that registers it"
        )
    return found


def nearest(name: str, names: Collection[str]) -> str:
    """End of a message on an unknown name, with the known name that is most similar; empty if none is."""
    return "".join(f"; did you mean {other!r}?" for other in difflib.get_close_matches(name, list(names), 1))
