"""Overhead over rank as a picture."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from adaptare.devices import InputError, MissingPackageError, StorageError
from adaptare.overhead_rows import Row

FORMATS = (".png", ".svg", ".pdf")


def check_figure(file: Path | None) -> None:
    """Raises `InputError` unless a figure can go there, and `MissingPackageError` unless it can be drawn."""
    if file is None:
        return
    if file.suffix not in FORMATS:
        raise InputError(f"--figure must end in {', '.join(FORMATS)}, not {str(file)!r}")
    if not file.parent.is_dir():
        raise InputError(f"--figure: there is no folder {str(file.parent)!r}")
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingPackageError("a figure needs matplotlib; install it with: pip install 'adaptare[figures]'")


def draw(rows: Sequence[Row], file: Path, *, title: str) -> None:
    """Overhead over rank with intervals, one panel for each phase and one line for each placement and mode.

    Raises:
        StorageError: The file cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    phases = list(dict.fromkeys((row.phase, row.length) for row in rows))
    figure, axes = pyplot.subplots(1, len(phases), figsize=(6 * len(phases), 4), squeeze=False)
    for axis, phase in zip(axes[0], phases, strict=True):
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
    figure.suptitle(title)
    figure.tight_layout()
    try:
        figure.savefig(file, dpi=120)
    except OSError as error:
        raise StorageError(f"the figure {str(file)!r} cannot be written: {error}") from error
    finally:
        pyplot.close(figure)
