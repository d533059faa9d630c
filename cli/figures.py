"""Figures of results, as files."""

import importlib.util
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from adaptare.console import Console
from adaptare.core import InputError, MissingPackageError, StorageError
from adaptare.exit_codes import ExitCode
from adaptare.workflows.fit.fitting import FitResult
from adaptare.workflows.overhead.overhead_rows import Row

FORMATS = (".png", ".svg", ".pdf")
# Characters of a title above one panel.
WIDTH = 72


def check_figure(file: Path | None) -> None:
    """Raises `InputError` if the path cannot hold a figure, and `MissingPackageError` if none can be drawn."""
    if file is None:
        return
    if file.suffix not in FORMATS:
        raise InputError(f"--figure must end in {', '.join(FORMATS)}, not {str(file)!r}")
    if not file.parent.is_dir():
        raise InputError(f"--figure: there is no folder {str(file.parent)!r}; create it, or name another")
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingPackageError("a figure needs matplotlib; install it with: pip install 'adaptare[figures]'")


def drawn(draw: Callable[[], None], file: Path, console: Console) -> ExitCode:
    """Draws a figure of a result and reports a failure as a note. Returns the exit code."""
    try:
        draw()
    except StorageError as error:
        console.note(str(error))
        return ExitCode.BAD_INPUT
    console.section(f"drawn: {file}")
    return ExitCode.DONE


@contextmanager
def panels(file: Path, count: int, *, title: str) -> Iterator[list[Any]]:
    """Yields `count` matplotlib axes side by side, saved to the file when the context ends.

    Raises:
        StorageError: The file cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, count, figsize=(6 * count, 4), squeeze=False)
    try:
        yield list(axes[0])
        figure.suptitle(textwrap.fill(title, WIDTH * count), fontsize=11)
        figure.tight_layout()
        figure.savefig(file, dpi=120)
    except OSError as error:
        raise StorageError(f"the figure {str(file)!r} cannot be written: {error}") from error
    finally:
        pyplot.close(figure)


def draw_overhead(rows: Sequence[Row], file: Path, *, title: str) -> None:
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


def draw_parity(result: FitResult, file: Path) -> None:
    """Draws the held-out prediction of every adapter, with its interval, over its measured value.

    Raises:
        StorageError: The file cannot be written.
    """
    factor, unit = (1e3, "ms") if result.unit == "s" else (1.0, result.unit)
    measured = factor * np.array([row.measured for row in result.held_out])
    predicted = factor * np.array([row.predicted.middle for row in result.held_out])
    half_width = factor * np.array([row.predicted.upper for row in result.held_out]) - predicted
    ends = [min(measured.min(), predicted.min()), max(measured.max(), predicted.max())]
    with panels(file, 1, title=f"{result.workload} on {result.device.device}") as [axis]:
        finite = np.where(np.isfinite(half_width), half_width, 0.0)
        axis.errorbar(measured, predicted, finite, fmt="o", markersize=4, capsize=2, linewidth=0.8)
        axis.plot(ends, ends, color="grey", linewidth=0.8)
        axis.axvline(factor * result.base, color="grey", linewidth=0.8, linestyle=":")
        axis.set(xlabel=f"measured, {unit} (dotted: the base)", ylabel=f"predicted, held out, {unit}")
