"""Contract of command results that draw themselves; replaced by the views of the command line."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from adaptare.core.table import Section


class Report(Protocol):
    """The result of a command."""

    @property
    def exit_code(self) -> int:
        """See `adaptare.devices`: 0 on success."""
        ...

    def sections(self) -> Iterable[Section]:
        """Tables, sentences and notes to display, in order."""
        ...

    def to_json(self) -> Mapping[str, Any]:
        """The result as plain JSON values."""
        ...
