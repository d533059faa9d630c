"""Contracts of command results, and of callbacks for the progress of long tasks."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

from adaptare.core.table import AnyTable

Update = Callable[[float, str], None]


@dataclass(frozen=True)
class Note:
    """A remark on a result, shown even if the result is JSON."""

    text: str


Section = AnyTable | Note | str


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


def _ignore(*words: object) -> None: ...


@contextmanager
def _silent(title: str) -> Iterator[Update]:
    yield _ignore


@dataclass(frozen=True)
class Feedback:
    """Callbacks for the progress of a long task; all do nothing by default.

    Args:
        note: Receives a remark.
        progress: Context of a task with a title, which yields `update(share, text)`.
        preview: Receives an intermediate table during a measurement.
        show: Receives a section of a result that is complete before the rest.
    """

    note: Callable[[str], None] = _ignore
    progress: Callable[[str], AbstractContextManager[Update]] = _silent
    preview: Callable[[AnyTable], None] = _ignore
    show: Callable[[Section], None] = _ignore


SILENT: Final = Feedback()
