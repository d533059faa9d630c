"""JSON with unique keys: of duplicates, one would silently win."""

import json
from typing import Any


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
