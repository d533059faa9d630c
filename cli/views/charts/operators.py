from collections.abc import Iterator

from adaptare.core.chart import Chart, Panel, Series
from adaptare.views.operators import lines_of
from adaptare.workflows.profiling.operators_report import OperatorsResult


def charts(result: OperatorsResult) -> Iterator[Chart]:
    """Milliseconds of each operator, without and with the adapter."""
    lines = lines_of(result)
    names = [line.title for line in lines]
    series = [
        Series("base", names, [1e3 * line.base_s for line in lines], style="bars"),
        Series("with adapter", names, [1e3 * line.adapted_s for line in lines], style="bars"),
    ]
    panel = Panel(f"{result.phase} {result.length}, {result.mode}", "operator", "ms of one profiled call", series)
    yield Chart("operators", "Where the time of a call goes", [panel])
