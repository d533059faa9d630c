"""Figures as files."""

import importlib.util
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adaptare.console import Console
from adaptare.core import InputError, MissingPackageError, StorageError
from adaptare.exit_codes import ExitCode

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
