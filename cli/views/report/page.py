"""HTML of a page: one file with its style, its data and Plotly, which loads nothing from anywhere."""

import base64
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from adaptare import VERSION
from adaptare.core.chart import HeatMap, Panel
from adaptare.core.table import Note, Section, Table
from adaptare.views.report.chapters import Chapter, chapters
from adaptare.views.report.machines import devices_of, machine_table
from adaptare.views.report.plots import plot
from adaptare.views.report.reproduce import sections as reproduction
from adaptare.workflows.overhead.overhead import OverheadReport
from adaptare.workflows.overhead.side_by_side import MOST, DeviceResult, SideBySide
from adaptare.workflows.reporting.inputs import Source
from adaptare.workflows.reporting.store_report import MIXED, StoreReport
from adaptare.workflows.target import spelled

if TYPE_CHECKING:
    from jinja2 import Environment

FOLDER: Final = Path(__file__).parent / "template"


@dataclass(frozen=True)
class InputChapters:
    """Chapters of one input."""

    name: str
    chapters: Sequence[Chapter]


def parts_of(sources: Sequence[Source]) -> list[InputChapters]:
    """Chapters of every input, with how to reproduce it; before them, several devices side by side."""
    compared = side_by_side(sources)
    parts = [InputChapters("Devices side by side", [next(chapters(compared))])] if compared else []
    for source in sources:
        own = [chapter for result in source.results for chapter in chapters(result)]
        if devices := devices_of(source.results):
            own.append(Chapter("Device and environment", sections=[machine_table(devices)]))
        parts.append(
            InputChapters(source.name, [*own, Chapter("How to reproduce", sections=list(reproduction(source)))])
        )
    return parts


def side_by_side(sources: Sequence[Source]) -> SideBySide | None:
    """Overheads of all inputs, a device for each base and input; `None` unless there are two.

    Adapters whose ranks differ have no name that is the same in each of them, and are left out.
    """
    reports = [
        (source.name, replace(report, rows=rows, merge_or_swap=None))
        for source in sources
        for result in source.results
        for report in _reports(result)
        if (rows := [row for row in report.rows if row.placement != MIXED])
    ][:MOST]
    if len(reports) < 2:
        return None
    names = [spelled(report.device, report.quantisation, report.dtype) for _, report in reports]
    count = Counter(names)
    return SideBySide(
        [
            DeviceResult(f"{name} ({place})" if count[name] > 1 else name, report)
            for name, (place, report) in zip(names, reports, strict=True)
        ]
    )


def _reports(result: object) -> Iterator[OverheadReport]:
    if isinstance(result, OverheadReport):
        yield result
    elif isinstance(result, StoreReport):
        yield from result.reports
    elif isinstance(result, SideBySide):
        yield from (device.report for device in result.devices if device.report)


def page(parts: Sequence[InputChapters], *, title: str, live: Mapping[str, Any] | None = None) -> str:
    """HTML of a page.

    Args:
        parts: Chapters of every input.
        title: Its heading.
        live: `version` of the parts, and `states`, identifier of an element -> HTML, of what changes more often, of a
            page that asks its server for news; other pages ask for nothing.
    """
    from plotly.offline import get_plotlyjs

    scripts = [get_plotlyjs(), (FOLDER / "page.js").read_text(encoding="utf-8")]
    return (
        templates()
        .get_template("page.html")
        .render(
            title=title,
            parts=_numbered(parts),
            scripts=scripts,
            policy=_policy(scripts, live=live is not None),
            style=(FOLDER / "page.css").read_text(encoding="utf-8"),
            live=live,
            version=VERSION,
        )
    )


def content(parts: Sequence[InputChapters]) -> str:
    """HTML of contents and results."""
    return templates().get_template("content.html").render(parts=_numbered(parts))


def _policy(scripts: Sequence[str], *, live: bool) -> str:
    """Content security policy by which the page runs these scripts alone, and reaches its own server at most."""
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    rules = {
        "default-src": "'none'",
        "script-src": " ".join(f"'sha256-{digest}'" for digest in digests),
        "style-src": "'unsafe-inline'",
        "img-src": "data: blob:",
        "connect-src": "'self'" if live else "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _numbered(parts: Sequence[InputChapters]) -> list[Mapping[str, Any]]:
    """Parts for the templates, each of their elements with an identifier."""
    numbers = count(1)

    def panel(each: Panel | HeatMap) -> Mapping[str, Any]:
        drawn = {"words": each.in_words, "table": each.table, "plot": plot(each)}
        return {"id": f"figure-{next(numbers)}", "title": each.title, **drawn}

    def chapter(each: Chapter) -> Mapping[str, Any]:
        return {
            "id": f"chapter-{next(numbers)}",
            "heading": each.heading,
            "charts": [{"title": chart.title, "panels": list(map(panel, chart.panels))} for chart in each.charts],
            "sections": [{"kind": _kind(section), "value": section} for section in each.sections],
        }

    return [
        {"id": f"part-{next(numbers)}", "name": part.name, "chapters": list(map(chapter, part.chapters))}
        for part in parts
    ]


def _kind(section: Section) -> str:
    return "table" if isinstance(section, Table) else "note" if isinstance(section, Note) else "text"


@cache
def templates() -> "Environment":
    """Templates of pages; they escape what they are given."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(FOLDER)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
