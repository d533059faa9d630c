"""Charts as figures of Plotly, without colours of their own: the page sets those of its theme."""

import html
import json
import math
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from adaptare.core.chart import HeatMap, Panel, Series

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# Series differ by form too, for who does not tell the colours apart.
SYMBOLS: Final = ("circle", "square", "diamond", "cross", "triangle-up", "x", "star", "triangle-down")
DASHES: Final = ("dash", "dot", "dashdot", "longdash")
# Characters of a place from which on places are listed from top to bottom.
LONG: Final = 9
LINE_PIXELS, MARGIN_PIXELS, HEIGHT_PIXELS = 24, 150, 380
# Characters of a line of a listed place, so that a phone has room for the values, and pixels of a further line.
FOLDED, FOLDED_TITLE, FURTHER_PIXELS = 24, 18, 14
# Values of a line from which on it has no markers.
DENSE: Final = 60
PLAIN: Final[Mapping[str, Any]] = {"layout": {}}


def plot(panel: Panel | HeatMap) -> dict[str, Any]:
    """Data and layout of a figure, as plain JSON values; what is not finite is null."""
    figure = _heat_map(panel) if isinstance(panel, HeatMap) else _axes(panel)
    content: dict[str, Any] = _escaped(json.loads(figure.to_json()))
    return content


def _heat_map(panel: HeatMap) -> "Figure":
    from plotly.graph_objects import Figure, Heatmap

    drawn = Heatmap(
        x=list(panel.places),
        y=list(panel.rows),
        z=list(map(list, panel.rows.values())),
        colorbar={"title": {"text": panel.unit}, "thickness": 12},
        hovertemplate=f"{panel.x} %{{x}}, {panel.y} %{{y}}: {panel.unit} %{{z}}<extra></extra>",
        xgap=1,
        ygap=1,
    )
    one, other = ({"title": {"text": text}, "type": "category", "automargin": True} for text in (panel.x, panel.y))
    height = MARGIN_PIXELS + LINE_PIXELS * len(panel.rows)
    return Figure(drawn, {"xaxis": one, "yaxis": other, "height": height, "template": PLAIN})


def _axes(panel: Panel) -> "Figure":
    from plotly.graph_objects import Figure

    names = list(
        dict.fromkeys(_folded(place) for series in panel.series for place in series.x if isinstance(place, str))
    )
    lying = max(map(len, names), default=0) >= LONG
    figure = Figure(layout={"template": PLAIN, "height": HEIGHT_PIXELS})
    if names:
        # Beside each other, not on top of each other; texts that look like dates or numbers stay names.
        figure.update_layout(scattermode="group", xaxis={"type": "-" if lying else "category"})
    figure.add_traces([_trace(series, number, lying=lying) for number, series in enumerate(panel.series)])
    title = _folded(panel.y, FOLDED_TITLE) if lying else panel.y
    one, other = ({"title": {"text": text}, "automargin": True} for text in (panel.x, title))
    if lying:
        each_pixels = max(LINE_PIXELS, FURTHER_PIXELS * (1 + max(name.count("\n") for name in names)))
        figure.update_layout(
            xaxis=other,
            yaxis={"type": "category", "autorange": "reversed", "automargin": True},
            height=MARGIN_PIXELS + each_pixels * len(names) * max(1, len(panel.series) // 2),
        )
    else:
        figure.update_layout(xaxis=one, yaxis=other)
    for (name, value), dash in zip(panel.levels.items(), DASHES, strict=False):
        if math.isfinite(value):
            draw = figure.add_vline if lying else figure.add_hline
            draw(value, line={"dash": dash, "width": 1.5}, annotation_text=name)
    if panel.diagonal and (values := _finite(panel)):
        ends = {"x0": min(values), "x1": max(values), "y0": min(values), "y1": max(values)}
        figure.add_shape(type="line", line={"width": 1, "dash": "dot"}, **ends)
    return figure


def _trace(series: Series, number: int, *, lying: bool) -> dict[str, Any]:
    """Trace of a series; bars and points of long names lie, so that the names can be read."""
    values = list(series.y)
    places = [_folded(place) if isinstance(place, str) else place for place in series.x]
    trace: dict[str, Any] = {"name": series.name, "x": values if lying else places, "y": places if lying else values}
    below, above = series.arms
    if above:
        arms = {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1.2}
        trace["error_x" if lying else "error_y"] = arms
    if series.labels:
        trace["text"] = list(series.labels)
        trace["hovertemplate"] = "%{text}: (%{x}, %{y})"
    if series.style == "bars":
        return {**trace, "type": "bar", "orientation": "h" if lying else "v", "textposition": "none"}
    line = series.style == "line"
    dense = len(values) > DENSE
    mode = "lines" if line and dense else "lines+markers" if line else "markers"
    if lying:
        trace["orientation"] = "h"
    return {**trace, "type": "scatter", "mode": mode, "marker": {"symbol": SYMBOLS[number % len(SYMBOLS)], "size": 7}}


def _folded(text: str, width: int = FOLDED) -> str:
    """Text in lines that are broken between words."""
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)


def _finite(panel: Panel) -> list[float]:
    """All numbers of both axes that are finite."""
    places = [place for series in panel.series for place in series.x if not isinstance(place, str)]
    values = [value for series in panel.series for value in series.y]
    return [value for value in (*places, *values) if math.isfinite(value)]


def _escaped(content: Any) -> Any:
    """Content whose text Plotly shows as it is, line by line: it would take tags for format."""
    if isinstance(content, Mapping):
        return {name: value if name == "hovertemplate" else _escaped(value) for name, value in content.items()}
    if isinstance(content, list):
        return [_escaped(value) for value in content]
    return html.escape(content, quote=False).replace("\n", "<br>") if isinstance(content, str) else content
