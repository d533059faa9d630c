"""View of merging and swapping for several tasks."""

from collections.abc import Iterator
from typing import Final

from adaptare.core.table import Column, Note, Section, Table
from adaptare.core.units import megabytes, milliseconds, percent
from adaptare.workflows.overhead.merge_or_swap import MergeOrSwap, Way

COLUMNS: Final[tuple[Column[Way], ...]] = (
    Column("mode", lambda way: way.mode),
    Column("disk MB", lambda way: megabytes(way.disk_bytes)),
    Column("memory MB, one task", lambda way: megabytes(way.memory_bytes)),
    Column("all", lambda way: megabytes(way.memory_of_all_bytes), 2),
    Column("peak MB", lambda way: megabytes(way.peak_bytes), 3),
    Column("change of task ms", lambda way: milliseconds(way.swap_s)),
    Column("cold", lambda way: "" if way.cold_swap_s is None else milliseconds(way.cold_swap_s), 1),
    Column("ms", lambda way: f"{way.phase} {milliseconds(way.latency_s)}", 4),
    Column("overhead", lambda way: percent(way.overhead)),
)


def sections(result: MergeOrSwap) -> Iterator[Section]:
    """A table, failures, and the conclusion."""
    adapters = f"adapters of {megabytes(result.adapter_bytes)} MB, a base of {megabytes(result.base_bytes)} MB"
    title = f"Merge or swap for {result.tasks} tasks, {result.placement} r{result.rank}: {adapters}"
    yield Table(title, COLUMNS, result.ways)
    yield from (Note(f"not loaded: {mode}: {reason}") for mode, reason in result.failures.items())
    if result.conclusion:
        yield result.conclusion
