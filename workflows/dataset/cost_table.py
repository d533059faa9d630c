"""Table of costs that simulators of serving import: seconds of a call by rank and number of adapted linears."""

import csv
import io
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from adaptare.core import InputError
from adaptare.core.whole_file import write_whole
from adaptare.workflows.dataset.rows import Row

SUFFIXES: Final = (".csv", ".json")
SAME: Final = (
    *("device", "hardware", "runtime", "model", "quantisation", "dtype", "phase", "length", "batch", "mode"),
    *("graph", "adapter", "origin"),
)


# Kind of the adapter, number of adapted linears and their rank, seconds of a call (the median over the measurements,
# with the outermost ends of their intervals), seconds without adapter, and number of measurements.
COLUMNS: Final = (
    *(*SAME, "linears", "rank"),
    *("seconds", "lower_s", "upper_s", "base_s", "overhead", "measurements"),
)


def costs_of(rows: Sequence[Row]) -> list[Row]:
    """Costs of the adapters of a data set that have the same rank on all their linears, and of their bases.

    Rank 0 on no linear is the base without adapter.

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


def write_costs(costs: Sequence[Row], file: Path) -> None:
    """Writes CSV or JSON, by the suffix of the file.

    Raises:
        InputError: The suffix is another.
        OSError: The file cannot be written; an earlier one is intact.
    """
    check_table(file)
    if file.suffix == ".json":
        units = {"seconds": "s", "lower_s": "s", "upper_s": "s", "base_s": "s"}
        write_whole(file, json.dumps({"units": units, "costs": costs}, indent=1) + "\n")
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(costs)
    write_whole(file, text.getvalue())


def check_table(file: Path) -> None:
    """Raises `InputError` if a table is not written as CSV or JSON, has no folder, or would replace another file."""
    if file.suffix not in SUFFIXES:
        raise InputError(f"a table of costs is written as {' or '.join(SUFFIXES)}, not {file.suffix!r}: {file}")
    if not file.parent.is_dir():
        raise InputError(f"there is no folder {str(file.parent)!r} for the table of costs; create it, or name another")
    if file.exists():
        begins = '{\n "units": ' if file.suffix == ".json" else f"{','.join(COLUMNS)}\n"
        if not file.is_file() or not file.read_bytes().startswith(begins.encode()):
            raise InputError(f"{str(file)!r} exists and is no earlier table of costs; name another file")


def _costs(kind: Mapping[str, Any], sizes: Mapping[tuple[int, int], Sequence[Row]]) -> list[Row]:
    every = [row for rows in sizes.values() for row in rows]
    base_s = statistics.median(row["reference_s"] for row in every)
    none = {"seconds": base_s, "lower_s": base_s, "upper_s": base_s, "base_s": base_s, "overhead": 0.0}
    costs = [{**kind, "linears": 0, "rank": 0, **none, "measurements": len(every)}]
    for (linears, rank), rows in sorted(sizes.items()):
        own = {
            "seconds": statistics.median(row["latency_s"] for row in rows),
            "lower_s": min(row["lower_s"] for row in rows),
            "upper_s": max(row["upper_s"] for row in rows),
            "base_s": statistics.median(row["reference_s"] for row in rows),
            "overhead": statistics.median(row["overhead"] for row in rows),
        }
        costs.append({**kind, "linears": linears, "rank": rank, **own, "measurements": len(rows)})
    return costs
