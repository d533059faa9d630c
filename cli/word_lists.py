"""Lists on the command line: numbers and names with commas between them, of which none is empty."""

import re

from adaptare.devices import InputError

WHOLE = re.compile(r"\s*[+-]?[0-9]+\s*")


def whole_numbers(text: str, option: str) -> list[int]:
    """The numbers in `1,8,64`. Raises `InputError`."""
    parts = text.split(",")
    if not all(WHOLE.fullmatch(part) for part in parts):
        raise InputError(f"{option} must be whole numbers with commas between them, such as 16 or 4,8,64, not {text!r}")
    return [int(part) for part in parts]


def names(text: str, option: str) -> tuple[str, ...]:
    """The names in `q_proj,v_proj`. Raises `InputError`."""
    parts = tuple(part.strip() for part in text.split(","))
    if not all(parts):
        raise InputError(f"{option} must be names with commas between them, such as q_proj,v_proj or all, not {text!r}")
    return parts
