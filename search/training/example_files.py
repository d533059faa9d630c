"""Files of examples: JSON lines, or one JSON array."""

from collections.abc import Iterator
from pathlib import Path

from adaptare.core import InputError
from adaptare.core.strict_json import parse_json
from adaptare.devices.program import Json
from adaptare.search.training.data import Example
from adaptare.search.training.formats import examples_of_row


def read_examples(file: str | Path) -> list[Example]:
    """Examples from JSON lines or a JSON array; the content decides, not the name of the file.

    Rows have one of the sets of fields in `formats.FORMATS`. Empty lines are skipped.

    Raises:
        InputError: The file cannot be read or is empty; or a row, named by its number, is in none of the formats.
    """
    try:
        text = Path(file).read_text(encoding="utf-8-sig")  # Windows writes a byte order mark
    except OSError as error:
        raise InputError(f"training data {str(file)!r} cannot be read: {error.strerror}; check the path") from error
    except UnicodeDecodeError as error:
        raise InputError(f"training data {str(file)!r} is not UTF-8: {error}; convert it first") from error
    if not text.strip():
        raise InputError(f"training data {str(file)!r} is empty; it needs JSON lines or a JSON array")
    rows = _array(text, file) if text.lstrip().startswith("[") else _lines(text, file)
    return [example for where, row in rows for example in examples_of_row(row, where)]


def _array(text: str, file: str | Path) -> Iterator[tuple[str, Json]]:
    try:
        rows = parse_json(text)
    except ValueError as error:
        raise InputError(
            f"{file}: not a JSON array ({error}); write one array of objects, or one object per line"
        ) from error
    if not rows:
        raise InputError(f"{file}: the array is empty; it needs at least one object")
    for number, row in enumerate(rows, start=1):
        yield f"{file}, row {number}", row


def _lines(text: str, file: str | Path) -> Iterator[tuple[str, Json]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield f"{file}, line {number}", parse_json(line)
        except ValueError as error:
            raise InputError(
                f"{file}, line {number}: not JSON ({error}); write one object per line, or one array of objects"
            ) from error
