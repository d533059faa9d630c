"""Figure of overhead over rank."""

from collections.abc import Sequence
from pathlib import Path

from adaptare.figures.figure_file import panels
from adaptare.workflows.overhead.overhead_rows import Row


def draw(rows: Sequence[Row], file: Path, *, title: str) -> None:
    """Overhead over rank with intervals, one panel for each phase and one line for each placement and mode.

    Raises:
        StorageError: The file cannot be written.
    """
    phases = list(dict.fromkeys((row.phase, row.length) for row in rows))
    with panels(file, len(phases), title=title) as axes:
        for axis, phase in zip(axes, phases, strict=True):
            for placement, mode in dict.fromkeys((row.placement, row.mode) for row in rows):
                here = [row for row in rows if (row.phase, row.length) == phase]
                line = [row for row in here if (row.placement, row.mode) == (placement, mode)]
                middle = [100 * row.overhead for row in line]
                below = [100 * (row.overhead - row.overhead_lower) for row in line]
                above = [100 * (row.overhead_upper - row.overhead) for row in line]
                ranks = [row.rank for row in line]
                axis.errorbar(ranks, middle, [below, above], label=f"{placement}, {mode}", marker="o", capsize=3)
            axis.axhline(0, color="grey", linewidth=0.8)
            base_ms = next(1e3 * row.base_s for row in rows if (row.phase, row.length) == phase)
            axis.set(title=f"{phase[0]} {phase[1]}, base {base_ms:.3g} ms", xlabel="rank", ylabel="overhead, %")
            axis.legend(fontsize=8)
