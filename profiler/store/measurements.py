"""Measurements as a data frame, a figure, and a table in notebooks."""

import itertools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from adaptare.core import InputError
from adaptare.core.lazy_names import check_installed
from adaptare.core.table import Column, Table
from adaptare.core.units import milliseconds, percent
from adaptare.profiler.store.measurement import Measurement
from adaptare.profiler.workloads.kinds import all_kinds

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

# Columns of the data frame that describe the workload, and those that no failed measurement has.
WORKLOAD: Final = ("phase", "length", "batch", "mode", "graph", "quantisation", "dtype", "scope")
STATISTICS: Final[dict[str, Callable[[Measurement], float]]] = {
    "latency_s": lambda row: row.latency_s,
    "lower_s": lambda row: row.lower_s,
    "upper_s": lambda row: row.upper_s,
    "ratio": lambda row: row.ratio.middle,
    "ratio_lower": lambda row: row.ratio.lower,
    "ratio_upper": lambda row: row.ratio.upper,
}
COLUMNS: Final[tuple[Column[Measurement], ...]] = (
    Column("workload", lambda row: f"{row.workload.phase} {row.workload.length}"),
    Column("mode", lambda row: row.workload.mode),
    Column("sites", lambda row: str(len(row.workload.configuration.ranks))),
    Column("largest rank", lambda row: str(max(row.workload.configuration.by_path.values(), default=0))),
    Column("ms", lambda row: milliseconds(row.latency_s) if row.visits else ""),
    Column("to the reference", lambda row: percent(row.ratio.middle - 1) if row.visits else ""),
    Column(
        "95 % interval",
        lambda row: row.ratio.over_one.ends(percent) if row.visits else row.failure,
    ),
)


class Measurements(list[Measurement]):
    """The list of measurements that `profile` and `Store.measurements` return."""

    def to_frame(self) -> "pandas.DataFrame":
        """One row per measurement: device, workload, adapter, latency in seconds, and ratio to the reference.

        Each kind of dimension has a column, as in JSON: `ranks` and `widths` hold dictionaries by path of the linear
        and by layer, `left_out` numbers of layers. What failed before its first round has no latency (nan) and its
        `failure`.

        Raises:
            MissingPackageError: pandas is not installed.
        """
        check_installed("pandas")
        import pandas

        return pandas.DataFrame([_cells(row) for row in self])

    def plot(self) -> "Figure":
        """Latency in milliseconds over the parameters of the adapter, with 95 % intervals.

        One panel per phase and length, one colour per device and mode; failed measurements are left out.

        Raises:
            InputError: Nothing was measured.
            MissingPackageError: matplotlib is not installed.
        """
        check_installed("matplotlib")
        from matplotlib.figure import Figure

        rows = sorted((row for row in self if row.visits), key=_panel)
        if not rows:
            raise InputError("a figure needs a measurement that did not fail; there is none")
        panels = [(key, list(group)) for key, group in itertools.groupby(rows, _panel)]
        figure = Figure(figsize=(6 * len(panels), 4), layout="tight")
        for axis, ((phase, length), here) in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
        ):
            for name in dict.fromkeys(map(_series, here)):
                series = [row for row in here if _series(row) == name]
                sizes = [row.workload.configuration.adapter_parameters(row.workload.shape) for row in series]
                latency, lower, upper = ([1e3 * getattr(row, end) for row in series] for end in list(STATISTICS)[:3])
                below, above = (
                    [abs(end - middle) for end, middle in zip(ends, latency, strict=True)] for ends in (lower, upper)
                )
                axis.errorbar(sizes, latency, [below, above], fmt="o", capsize=3, label=name)
            axis.set(title=f"{phase} {length}", xlabel="parameters of the adapter", ylabel="latency, ms")
            axis.legend(fontsize=8)
        return figure

    def _repr_html_(self) -> str:
        """For notebooks."""
        return Table(f"{len(self)} measurements", COLUMNS, self)._repr_html_()


def _cells(row: Measurement) -> dict[str, Any]:
    workload, configuration = row.workload, row.workload.configuration
    return {
        "device": row.device.device,
        "runtime": row.device.runtime,
        **{name: getattr(workload, name) for name in WORKLOAD},
        "kind": configuration.kind,
        **{kind.key: kind.to_json(configuration.kinds.get(kind, {})) for kind in all_kinds()},
        "adapter_parameters": configuration.adapter_parameters(workload.shape),
        **{name: value(row) if row.visits else math.nan for name, value in STATISTICS.items()},
        "rounds": len(row.visits),
        "openings": len(set(row.openings.tolist())),
        "stopped_by": row.stopped_by,
        "failure": row.failure,
        "origin": row.origin,
        "session": row.session,
        "taken_at": row.taken_at,
    }


def _panel(row: Measurement) -> tuple[str, int]:
    return row.workload.phase, row.workload.length


def _series(row: Measurement) -> str:
    return f"{row.device.device}, {row.workload.mode}"
