import shlex
from collections.abc import Iterator
from typing import Final

from adaptare.core.table import Note, Section
from adaptare.core.units import counted
from adaptare.profiler.store import Salvage

# Reasons that are shown; JSON has all.
SHOWN: Final = 5


def sections(result: Salvage) -> Iterator[Section]:
    """Numbers of kept and lost measurements, and the first reasons."""
    yield f"{counted(result.kept, 'measurement')} of {result.store} kept in {result.new}, {len(result.lost)} lost"
    for number, reason in list(result.lost.items())[:SHOWN]:
        yield Note(f"measurement {number}: {reason}")
    if result.obsolete:
        yield Note(f"{counted(result.obsolete, 'measurement')} of an earlier version left out, which no version reads")
    yield Note(f"next: {shlex.join(['adaptare', 'store', result.new])}")
