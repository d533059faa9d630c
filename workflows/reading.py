"""Measurements of a store, with progress if there are many."""

import time
from typing import Final

from adaptare.core.progress import Feedback
from adaptare.profiler import Measurement, Store

# Most stores are read in less, and need no display.
QUIET_S: Final = 2.0


def read_store(store: Store, feedback: Feedback) -> list[Measurement]:
    """All measurements of a store. Raises `InputError` if it cannot be read."""
    started_s = time.monotonic()
    with feedback.progress("reading") as update:

        def show(share: float) -> None:
            if time.monotonic() - started_s > QUIET_S:
                update(share, store.location)

        return store.measurements(progress=show)
