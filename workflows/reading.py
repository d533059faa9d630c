"""Measurements of a store, with progress if there are many."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from adaptare.core.progress import Feedback
from adaptare.profiler import Measurement, Store

# Most stores are read in less, and need no display.
QUIET_S: Final = 2.0


def read_store(store: Store, feedback: Feedback) -> list[Measurement]:
    """All measurements of a store. Raises `InputError` if it cannot be read."""
    with reading(store, feedback) as show:
        return store.measurements(progress=show)


@contextmanager
def reading(store: Store, feedback: Feedback) -> Iterator[Callable[[float], None]]:
    """Yields a callback for the share of a store that is read; nothing is shown of what takes little time."""
    since_s: float | None = None  # the first row, before which libraries are imported
    with feedback.progress("reading") as update:

        def show(share: float) -> None:
            nonlocal since_s
            if share:
                since_s = since_s or time.monotonic()
                if time.monotonic() - since_s >= QUIET_S:
                    update(share, store.location)

        yield show
