"""Callbacks through which a long task reports its progress."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Final

Update = Callable[[float, str], None]


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
        preview: Receives the result so far, during a measurement.
        show: Receives a part of the result that is complete before the rest.
    """

    note: Callable[[str], None] = _ignore
    progress: Callable[[str], AbstractContextManager[Update]] = _silent
    preview: Callable[[Any], None] = _ignore
    show: Callable[[Any], None] = _ignore


SILENT: Final = Feedback()


def time_left(elapsed_s: float, share: float) -> str:
    """Estimated remaining time at the current rate; empty during the first hundredth."""
    if not 0.01 <= share < 1:
        return ""
    left_s = elapsed_s * (1 / share - 1)
    return f"about {left_s:.0f} s left" if left_s < 100 else f"about {left_s / 60:.0f} min left"
