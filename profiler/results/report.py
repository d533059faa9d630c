"""The contract of results that commands show, and of those who hear how far a long task is."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

from adaptare.profiler.results.table import AnyTable

Update = Callable[[float, str], None]


@dataclass(frozen=True)
class Note:
    """A remark beside a result, which is shown even where the result is JSON."""

    text: str


Section = AnyTable | Note | str


class Report(Protocol):
    """The result of a command."""

    @property
    def exit_code(self) -> int:
        """See `adaptare.devices`: 0 where all went well."""
        ...

    def sections(self) -> Iterable[Section]:
        """Tables, sentences and notes for people, in order."""
        ...

    def to_json(self) -> Mapping[str, Any]:
        """The same for programs, as plain JSON values."""
        ...


def _ignore(*said: object) -> None: ...


@contextmanager
def _silent(title: str) -> Iterator[Update]:
    yield _ignore


@dataclass(frozen=True)
class Feedback:
    """Callables that hear how far a long task is; all are silent by default.

    Args:
        note: Takes a remark.
        progress: Context of a task with that title, which yields `update(share, text)`.
        preview: Takes a table as it stands while something is measured.
        show: Takes a section of a result that is finished before the rest.
    """

    note: Callable[[str], None] = _ignore
    progress: Callable[[str], AbstractContextManager[Update]] = _silent
    preview: Callable[[AnyTable], None] = _ignore
    show: Callable[[Section], None] = _ignore


SILENT: Final = Feedback()
