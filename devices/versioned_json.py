"""JSON files that name the schema they are written in."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adaptare.devices.errors import InputError, StorageError
from adaptare.devices.strict_json import parse_json
from adaptare.devices.whole_file import write_whole


def write_versioned(file: Path, content: Mapping[str, Any], *, schema: int) -> None:
    """Writes a JSON object into a folder, which is made if needed.

    Raises:
        StorageError: It cannot be written; an old file stays as it is.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps({"schema": schema, **content}, indent=1))
    except OSError as error:
        raise StorageError(f"{str(file)!r} cannot be written: {error.strerror or error}") from error


def read_versioned(file: Path, *, schema: int, otherwise: str) -> dict[str, Any]:
    """The object in a file without its schema.

    Args:
        file: Written by `write_versioned`, by this version or an earlier one.
        schema: The latest that can be read.
        otherwise: What the file is not, and what to do.

    Raises:
        InputError: There is no such file, or it is of a newer version.
    """
    try:
        content = parse_json(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(otherwise) from error
    except ValueError as error:
        raise InputError(f"{otherwise}; {str(file)!r} is not JSON: {error}") from error
    found = content.pop("schema", None) if isinstance(content, dict) else None
    if not isinstance(found, int):
        raise InputError(f"{otherwise}; {str(file)!r} names no schema")
    if found > schema:
        raise InputError(f"{str(file)!r} has schema {found}, this version reads up to {schema}; update adaptare")
    return dict(content)
