"""JSON files that include their schema version."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from adaptare.core.codec import from_json
from adaptare.core.errors import InputError, StorageError
from adaptare.core.strict_json import read_json
from adaptare.core.whole_file import write_whole

T = TypeVar("T")


def versioned(content: Mapping[str, Any], *, schema: int) -> str:
    """Text of a JSON object with its schema version."""
    return json.dumps({"schema": schema, **content}, indent=1)


def write_versioned(file: Path, content: Mapping[str, Any], *, schema: int) -> None:
    """Writes a JSON object to a file, and creates its folder if needed.

    Raises:
        StorageError: The file is not writable; an old file is unchanged.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, versioned(content, schema=schema))
    except OSError as error:
        raise StorageError(f"{str(file)!r} cannot be written: {error.strerror or error}") from error


def read_versioned(file: Path, *, schema: int, otherwise: str) -> dict[str, Any]:
    """Content of a file without its schema version.

    Args:
        file: File written by `write_versioned`, by this version or an earlier one.
        schema: Latest supported version.
        otherwise: End of the error message: the kind of file it is not, and what to do.

    Raises:
        InputError: There is no such file, or it has a newer version.
    """
    try:
        content = read_json(file)
    except OSError as error:
        raise InputError(f"{otherwise}; {str(file)!r} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{otherwise}; {str(file)!r} is not JSON: {error}") from error
    named_schema = content.pop("schema", None) if isinstance(content, dict) else None
    if type(named_schema) is not int or named_schema < 1:
        raise InputError(f"{otherwise}; {str(file)!r} names no schema")
    if named_schema > schema:
        newer = f"{str(file)!r} has schema {named_schema}, this version reads up to {schema}"
        raise InputError(f"{newer}; update adaptare, unless {otherwise}")
    return dict(content)


def read_as(kind: type[T], file: Path, *, schema: int, otherwise: str) -> T:
    """The value of a type whose JSON form `write_versioned` wrote; arguments as of `read_versioned`.

    Raises:
        InputError: There is no such file, it has a newer version, or its content is not of this type.
    """
    content = read_versioned(file, schema=schema, otherwise=otherwise)
    try:
        return from_json(kind, content)
    except InputError as error:
        raise InputError(f"{otherwise}; {error}") from error
