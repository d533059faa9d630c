from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from adaptare.workflows.overhead.overhead import OverheadReport
from adaptare.workflows.overhead.side_by_side import MOST, DeviceResult, SideBySide
from adaptare.workflows.reporting.inputs import Source
from adaptare.workflows.reporting.store_report import MIXED, StoreReport
from adaptare.workflows.target import spelled


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
