"""JSON files of bounded size with unique keys: of duplicates, one would silently win."""

import json
from pathlib import Path
from typing import Any, Final

# Of one file of settings or results; no such file that adaptare or PEFT writes comes near it.
MOST_BYTES: Final = 64 * 2**20


def read_json(file: Path) -> Any:
    """The value in a JSON file.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is too large, is not UTF-8, or `parse_json` refuses it.
    """
    return parse_json(read_bounded(file))


def read_bounded(file: Path, *, encoding: str = "utf-8") -> str:
    """Text of a file of at most `MOST_BYTES`. Raises `OSError` and `ValueError`."""
    with file.open("rb") as stream:
        content = stream.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES // 2**20} MiB")
    return content.decode(encoding)


def parse_json(text: str) -> Any:
    """The value in a JSON text.

    Raises:
        ValueError: The text is not JSON, has a key twice in one object, or is nested deeper than Python supports.
    """
    try:
        return json.loads(text, object_pairs_hook=_with_unique_keys)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _with_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} is written twice in one object")
    return content
