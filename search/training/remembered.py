"""Computed values in a file, so that a search that was interrupted goes on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptare.core import StorageError
from adaptare.core.content_hash import Json, content_hash

Values = NDArray[np.float64]


class Remembered:
    """Arrays of numbers by key, in memory and in a file of JSON lines to which each is added once it is computed.

    Args:
        file: File of earlier values, or of none yet; `None` keeps them in memory alone.
        of: What all values are of, such as a hash of the weights; values of others in the file are not used.
    """

    def __init__(self, file: Path | None = None, *, of: Json = None) -> None:
        self._file, self._of = file, of
        self._known: dict[str, Values] = {}
        if file and file.exists():
            self._known = dict(filter(None, map(_read, file.read_text(encoding="utf-8").splitlines())))

    def __call__(self, key: Json, make: Callable[[], Values]) -> Values:
        """The value of a key, computed unless it is known. Raises `StorageError` as `keep`."""
        known = self.find(key)
        return self.keep(key, make()) if known is None else known

    def part(self, of: Json) -> "Remembered":
        """Values of something else that the same weights determine, in the same file."""
        found = Remembered(of=[self._of, of])
        found._file, found._known = self._file, self._known
        return found

    def find(self, key: Json) -> Values | None:
        """The value of a key; `None` if it was not computed before."""
        return self._known.get(content_hash([self._of, key]))

    def keep(self, key: Json, values: Values) -> Values:
        """Adds the value of a key, and returns it. Raises `StorageError` if the file cannot be written."""
        name = content_hash([self._of, key])
        self._known[name] = values
        if self._file is not None:
            line = json.dumps({"key": name, "values": values.tolist()})
            try:
                with self._file.open("a", encoding="utf-8") as lines:
                    lines.write(f"\n{line}")  # also after a line that was cut off
            except OSError as error:
                raise StorageError(f"{str(self._file)!r} cannot be written: {error.strerror or error}") from error
        return values


def _read(line: str) -> tuple[str, Values] | None:
    """Key and values of a line; `None` if it is empty or was cut off."""
    try:
        content: Any = json.loads(line)
        return str(content["key"]), np.array(content["values"], dtype=np.float64)
    except (ValueError, TypeError, KeyError):
        return None
