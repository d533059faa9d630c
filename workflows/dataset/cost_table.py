"""Table of costs that simulators of serving import: seconds of a call by rank and number of adapted linears."""

import csv
import io
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from adaptare.core import InputError
from adaptare.core.whole_file import write_whole
from adaptare.workflows.dataset.rows import Row

SUFFIXES: Final = (".csv", ".json")
SAME: Final = (
    *("device", "hardware", "runtime", "model", "quantisation", "dtype", "phase", "length", "batch", "mode"),
    *("graph", "adapter"),
)


@dataclass(frozen=True)
class Cost:
    """Cost of adapters with one rank on some linears; rank 0 on no linear is the base without adapter.

    Args:
        linears: Number of adapted linears.
        seconds: Seconds of a call; the median over the measurements.
        lower_s: Lowest end of their 95 % intervals; `upper_s` is the highest.
        base_s: Seconds of a call without adapter; the median over the measurements.
        overhead: Seconds over those of the base, minus one.
        measurements: Number of measurements.
    """

    device: str
    hardware: str
    runtime: str
    model: str
    quantisation: str
    dtype: str
    phase: str
    length: int
    batch: int
    mode: str
    graph: str
    adapter: str
    linears: int
    rank: int
    seconds: float
    lower_s: float
    upper_s: float
    base_s: float
    overhead: float
    measurements: int


def costs_of(rows: Sequence[Row]) -> list[Cost]:
    """Costs of the adapters of a data set that have the same rank on all their linears, and of their bases.

    Raises:
        InputError: No row has such an adapter.
    """
    groups: dict[tuple[object, ...], dict[tuple[int, int], list[Row]]] = {}
    for row in rows:
        ranks = {each["rank"] for each in row["ranks"]}
        if len(ranks) == 1 and not row["widths"] and not row["left_out"]:
            kind = tuple(row[name] for name in SAME)
            groups.setdefault(kind, {}).setdefault((len(row["ranks"]), *ranks), []).append(row)
    if not groups:
        raise InputError(
            "no measured adapter has one rank on all its linears, so there is no table by rank; measure some, such as "
            "ranks 4, 16 and 64 on all linears"
        )
    return [cost for kind, sizes in groups.items() for cost in _costs(dict(zip(SAME, kind, strict=True)), sizes)]


def write_costs(costs: Sequence[Cost], file: Path) -> None:
    """Writes CSV or JSON, by the suffix of the file.

    Raises:
        InputError: The suffix is another.
        OSError: The file cannot be written; an earlier one is intact.
    """
    check_suffix(file)
    rows = list(map(asdict, costs))
    if file.suffix == ".json":
        units = {"seconds": "s", "lower_s": "s", "upper_s": "s", "base_s": "s"}
        write_whole(file, json.dumps({"units": units, "costs": rows}, indent=1) + "\n")
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, [each.name for each in fields(Cost)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(file, text.getvalue())


def check_suffix(file: Path) -> None:
    """Raises `InputError` if a table is not written as CSV or JSON."""
    if file.suffix not in SUFFIXES:
        raise InputError(f"a table of costs is written as {' or '.join(SUFFIXES)}, not {file.suffix!r}: {file}")


def _costs(kind: Mapping[str, Any], sizes: Mapping[tuple[int, int], Sequence[Row]]) -> list[Cost]:
    every = [row for rows in sizes.values() for row in rows]
    base_s = statistics.median(row["reference_s"] for row in every)
    none = {"seconds": base_s, "lower_s": base_s, "upper_s": base_s, "base_s": base_s, "overhead": 0.0}
    costs = [Cost(**kind, **none, linears=0, rank=0, measurements=len(every))]
    for (linears, rank), rows in sorted(sizes.items()):
        own = {
            "seconds": statistics.median(row["latency_s"] for row in rows),
            "lower_s": min(row["lower_s"] for row in rows),
            "upper_s": max(row["upper_s"] for row in rows),
            "base_s": statistics.median(row["reference_s"] for row in rows),
            "overhead": statistics.median(row["overhead"] for row in rows),
        }
        costs.append(Cost(**kind, **own, linears=linears, rank=rank, measurements=len(rows)))
    return costs
