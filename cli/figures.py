"""Charts as files of figures, drawn by matplotlib."""

import io
import math
import textwrap
from pathlib import Path
from typing import Any

from adaptare.console import Console
from adaptare.core import InputError, StorageError
from adaptare.core.chart import Chart, HeatMap, Panel, Series
from adaptare.core.lazy_names import check_installed
from adaptare.core.whole_file import write_whole
from adaptare.exit_codes import ExitCode

FORMATS = (".png", ".svg", ".pdf")
# Characters of a title above one panel.
WIDTH = 72
# Series differ by form too, for who does not tell the colours apart.
MARKERS = "osD^vPX*"


def check_figure(file: Path | None) -> None:
    """Raises `InputError` if the path cannot hold a figure, and `MissingPackageError` if none can be drawn."""
    if file is None:
        return
    if file.suffix not in FORMATS:
        raise InputError(f"--figure must end in {', '.join(FORMATS)}, not {str(file)!r}")
    if not file.parent.is_dir():
        raise InputError(f"--figure: there is no folder {str(file.parent)!r}; create it, or name another")
    check_installed("matplotlib")


def drawn(chart: Chart, file: Path, console: Console) -> ExitCode:
    """Draws a figure of a result and reports a failure as a note. Returns the exit code."""
    try:
        draw(chart, file)
    except StorageError as error:
        console.note(str(error))
        return ExitCode.BAD_INPUT
    console.section(f"drawn: {file}")
    return ExitCode.DONE


def draw(chart: Chart, file: Path) -> None:
    """Draws all panels of a chart side by side.

    Raises:
        StorageError: The file cannot be written; an earlier one is intact.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6 * len(chart.panels), 4))
    for axis, panel in zip(figure.subplots(1, len(chart.panels), squeeze=False)[0], chart.panels, strict=True):
        if isinstance(panel, HeatMap):
            _draw_map(panel, axis)
        else:
            _draw_axes(panel, axis)
        axis.set_title(_plain(panel.title), fontsize=10)
    figure.suptitle(textwrap.fill(_plain(chart.title), WIDTH * len(chart.panels)), fontsize=11)
    figure.tight_layout()
    content = io.BytesIO()
    figure.savefig(content, format=file.suffix.removeprefix("."), dpi=120)
    try:
        write_whole(file, content.getvalue())
    except OSError as error:
        raise StorageError(f"the figure {str(file)!r} cannot be written: {error}") from error


def _draw_axes(panel: Panel, axis: Any) -> None:
    names = list(dict.fromkeys(place for series in panel.series for place in series.x if isinstance(place, str)))
    bars = [series for series in panel.series if series.style == "bars"]
    for number, series in enumerate(panel.series):
        places = [float(names.index(place)) if isinstance(place, str) else place for place in series.x]
        if series.style == "bars":
            width = 0.8 / len(bars)
            shift = width * (bars.index(series) - (len(bars) - 1) / 2)
            axis.bar(
                [place + shift for place in places], series.y, width, label=_plain(series.name), yerr=_arms(series)
            )
        else:
            line = "-" if series.style == "line" else "none"
            marker = MARKERS[number % len(MARKERS)]
            style = {"marker": marker, "markersize": 4, "capsize": 3, "linestyle": line, "linewidth": 1.0}
            axis.errorbar(places, series.y, _arms(series), label=_plain(series.name), **style)
    if names:
        axis.set_xticks(range(len(names)), list(map(_plain, names)), rotation=30, ha="right", fontsize=8)
    for name, value in panel.levels.items():
        if math.isfinite(value):
            axis.axhline(value, color="grey", linewidth=0.8, linestyle="--")
            axis.annotate(name, (1, value), xycoords=("axes fraction", "data"), fontsize=7, ha="right", va="bottom")
    if panel.diagonal:
        axis.axline((panel.series[0].y[0],) * 2, slope=1, color="grey", linewidth=0.8)
    axis.set(xlabel=_plain(panel.x), ylabel=_plain(panel.y))
    if panel.series:
        axis.legend(fontsize=8)


def _draw_map(panel: HeatMap, axis: Any) -> None:
    image = axis.imshow(list(panel.rows.values()), aspect="auto", cmap="YlGnBu")
    axis.set_yticks(range(len(panel.rows)), list(map(_plain, panel.rows)))
    step = max(1, len(panel.places) // 10)
    axis.set_xticks(range(0, len(panel.places), step), panel.places[::step])
    axis.set(xlabel=panel.x, ylabel=panel.y)
    axis.figure.colorbar(image, ax=axis, label=panel.unit)


def _arms(series: Series) -> list[list[float]] | None:
    below, above = series.arms
    return [below, above] if above else None


def _plain(text: str) -> str:
    """Text without a beginning of mathematics."""
    return text.replace("$", r"\$")
