"""Charts of a result as data, which a page draws interactively and a figure draws as a file."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from adaptare.core.table import Column, Table

Place = float | str
Style = Literal["line", "points", "bars"]
# Values of the text of a chart have as many significant digits.
DIGITS: Final = 4


@dataclass(frozen=True)
class Series:
    """Values of one colour, with the ends of their intervals.

    Args:
        name: Entry of the legend.
        x: Places; numbers or names.
        y: Values; one that is not finite is not drawn.
        lower: Lower ends of the intervals; empty without any. One that is not finite is not drawn.
        upper: Upper ends.
        labels: Names of the values; empty without any.
    """

    name: str
    x: Sequence[Place]
    y: Sequence[float]
    lower: Sequence[float] = ()
    upper: Sequence[float] = ()
    labels: Sequence[str] = ()
    style: Style = "points"

    @property
    def arms(self) -> tuple[list[float], list[float]]:
        """Lengths from the values to the lower and upper ends; 0 where an end is unknown. Empty without intervals."""
        below = [_length(value - end) for value, end in zip(self.y, self.lower, strict=False)]
        above = [_length(end - value) for value, end in zip(self.y, self.upper, strict=False)]
        return below, above


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Args:
        x: Title of the axis, with its unit.
        y: Title of the axis, with its unit.
        levels: Name -> value of a horizontal line, such as a budget.
        diagonal: True to draw the line where both axes are equal.
    """

    title: str
    x: str
    y: str
    series: Sequence[Series]
    levels: Mapping[str, float] = field(default_factory=dict)
    diagonal: bool = False

    @property
    def table(self) -> Table[Sequence[str]]:
        """The drawn values."""
        names = any(series.labels for series in self.series)
        ends = any(series.lower for series in self.series)
        headings = ["series", *["name"] * names, self.x, self.y, *["lower end", "upper end"] * ends]
        return _table(self.title, headings, [row for each in self.series for row in self._rows(each, names, ends)])

    def _rows(self, series: Series, names: bool, ends: bool) -> Iterator[list[str]]:
        for place, (x, y) in enumerate(zip(series.x, series.y, strict=True)):
            name = [series.labels[place] if series.labels else ""] * names
            both = [number(end[place]) if end else "" for end in (series.lower, series.upper)] * ends
            yield [series.name, *name, x if isinstance(x, str) else number(x), number(y), *both]

    @property
    def in_words(self) -> str:
        """Alternative for who does not see it: what is drawn, and from where to where it goes."""
        drawn = "; ".join(filter(None, map(_range, self.series)))
        lines = "".join(f"; {name} at {number(value)}" for name, value in self.levels.items())
        return f"{self.title}: {self.y} over {self.x}. {drawn or 'nothing measured'}{lines}."


@dataclass(frozen=True)
class HeatMap:
    """Values of a grid as colours.

    Args:
        x: Title of the axis.
        places: Names of the columns.
        y: Title of the axis.
        rows: Name of a row -> its values.
        unit: What the values are.
    """

    title: str
    x: str
    places: Sequence[str]
    y: str
    rows: Mapping[str, Sequence[float]]
    unit: str

    @property
    def table(self) -> Table[Sequence[str]]:
        """The drawn values; a row for each column of the map, as maps are wider than high."""
        columns = zip(*self.rows.values(), strict=True)
        cells = [list(map(number, column)) for column in columns]
        headings = [self.x, *self.rows]
        rows = [[name, *column] for name, column in zip(self.places, cells, strict=True)]
        return _table(f"{self.title}: {self.unit}", headings, rows)

    @property
    def in_words(self) -> str:
        """Alternative for who does not see it: what is drawn, and how much of each row is filled."""
        filled = {name: [value for value in row if value] for name, row in self.rows.items()}
        words = (
            f"{name} in {len(some)} of {len(self.places)}{f', up to {number(max(some))}' if some else ''}"
            for name, some in filled.items()
        )
        return f"{self.title}: {self.unit} by {self.x} and {self.y}. {'; '.join(words)}."


@dataclass(frozen=True)
class Chart:
    """Panels beside each other.

    Args:
        name: Name of its file, without the suffix.
    """

    name: str
    title: str
    panels: Sequence[Panel | HeatMap]


def number(value: float) -> str:
    """Number with four significant digits, and as a whole number from 1,000 on."""
    if not math.isfinite(value):
        return "unknown"
    return f"{value:,.0f}" if abs(value) >= 10 ** (DIGITS - 1) else f"{value:.{DIGITS}g}"


def _length(value: float) -> float:
    return max(value, 0.0) if math.isfinite(value) else 0.0


def _range(series: Series) -> str:
    drawn = [value for value in series.y if math.isfinite(value)]
    if not drawn:
        return ""
    ends = number(min(drawn)) if min(drawn) == max(drawn) else f"{number(min(drawn))} to {number(max(drawn))}"
    return f"{series.name}: {ends}"


def _table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table[Sequence[str]]:
    def column(place: int) -> Column[Sequence[str]]:
        return Column(headings[place], lambda row: row[place])

    return Table(title, tuple(map(column, range(len(headings)))), rows)
