from collections.abc import Iterator
from typing import Final

from adaptare.core.chart import Chart, Panel, Series
from adaptare.workflows.reporting.store_report import Sessions, Timeline

# Sessions that are drawn, of a store of many.
SHOWN: Final = 12


def charts(sessions: Sessions) -> Iterator[Chart]:
    """The reference through the latest sessions, with changes of its speed, and how intervals became narrower."""
    for number, each in enumerate(sessions.timelines[-SHOWN:], start=1):
        mark = f"-{number}" if len(sessions.timelines) > 1 else ""
        panels = [_reference(each), *[_half_widths(each)] * (len(each.half_widths) > 1)]
        if each.rounds:
            yield Chart(
                f"session{mark}", f"Session of {each.taken_at[:16].replace('T', ' ')} UTC, {each.device}", panels
            )


def _reference(each: Timeline) -> Panel:
    seconds = dict(zip(each.rounds, each.reference_s, strict=True))
    series = [Series("reference", each.rounds, [1e3 * value for value in each.reference_s], style="line")]
    if each.changes:
        at = [1e3 * seconds[number] for number in each.changes]
        series.append(Series("alarm: speed changed by more than 5 %", each.changes, at))
    return Panel("reference", "round", "latency of the reference, ms", series)


def _half_widths(each: Timeline) -> Panel:
    widths = Series(
        "widest interval", list(each.half_widths), [100 * width for width in each.half_widths.values()], style="line"
    )
    return Panel("precision", "openings", "widest half-width, % (95 %)", [widths])
