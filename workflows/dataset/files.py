"""Folders of data sets: one Parquet file, and a card as Hugging Face displays it."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from adaptare.core import InputError
from adaptare.core.progress import SILENT, Feedback, Update
from adaptare.core.units import counted
from adaptare.core.whole_file import write_together
from adaptare.profiler import Store
from adaptare.search.training import check_free
from adaptare.workflows.dataset.rows import FIELDS, SCHEMA, UNIT, Row, distinct, identity, row_of
from adaptare.workflows.reading import read_store

DATA: Final = "measurements.parquet"
CARD: Final = "README.md"
# Upper ends of the size categories of the hub.
SIZES: Final = {10**3: "n<1K", 10**4: "1K<n<10K", 10**5: "10K<n<100K", 10**6: "100K<n<1M", 10**7: "1M<n<10M"}
# Share of the time of writing a data set that its rows take before they are compressed.
ROWS: Final = 0.6
# Columns of which the card counts the rows.
COUNTED: Final = ("device", "hardware", "runtime", "model", "quantisation", "phase", "length", "mode")


@dataclass(frozen=True)
class Written:
    """A written data set.

    Args:
        left_out: Measurements of the stores that are not in it: incomplete, failed, without an interval, or not of a
            whole model.
        duplicates: Rows that came more than once.
    """

    folder: Path
    rows: int
    sessions: int
    devices: tuple[str, ...]
    left_out: int = 0
    duplicates: int = 0


@dataclass(frozen=True)
class Fault:
    """An invalid value: number of the row from 1, or 0 for the whole data set; its column; and the reason."""

    row: int
    column: str
    problem: str


def export_dataset(
    stores: Sequence[str],
    folder: Path,
    *,
    licence: str = "unknown",
    title: str = "",
    before: Callable[[Sequence[Row]], None] = lambda rows: None,
    feedback: Feedback = SILENT,
) -> Written:
    """Writes the complete measurements of whole models in some stores as a data set.

    Args:
        stores: Files or database URLs.
        folder: Its data and its card are replaced.
        licence: Identifier of the hub, such as `cc-by-4.0`.
        title: Name of the data set; by default that of the folder.
        before: Called with the rows before they are written; if it raises, nothing is.
        feedback: Receives progress.

    Raises:
        InputError: There is no such store, or no complete measurement, or the folder holds other files.
        OSError: The folder cannot be written; its earlier content is intact.
    """
    check_free(folder, DATA)
    measured = [row for store in stores for row in read_store(Store(store, create=False), feedback)]
    timed = [row for row in measured if row.complete and row.visits and row.workload.scope == "model"]
    whole = [row for row in timed if math.isfinite(row.overhead.upper)]
    if not whole:
        raise InputError(f"{', '.join(stores)} has no complete measurement of a whole model; measure something first")
    with feedback.progress("exporting") as update:
        rows = []
        for number, row in enumerate(whole):
            update(ROWS * number / len(whole), f"{number} of {len(whole)} measurements")
            rows.append(row_of(row))
        before(rows)
        update(ROWS, "writing Parquet")
        return _write(rows, folder, licence, title, left_out=len(measured) - len(whole))


def merge_datasets(
    folders: Sequence[Path],
    output: Path,
    *,
    licence: str = "unknown",
    title: str = "",
    feedback: Feedback = SILENT,
) -> Written:
    """Writes the rows of several data sets as one; rows of equal content are written once.

    Raises:
        InputError: One of them is not a valid data set, or the folder of the output holds other files.
        OSError: The folder cannot be written; its earlier content is intact.
    """
    check_free(output, DATA)
    rows: list[Row] = []
    with feedback.progress("merging") as update:
        for number, folder in enumerate(folders):

            def show(share: float, text: str, *, number: int = number, folder: Path = folder) -> None:
                update(ROWS * (number + share) / len(folders), f"{folder}: {text}")

            if faults := list(faults_of(folder, update=show)):
                many = counted(len(faults), "fault")
                raise InputError(f"{folder} is not valid: {many}, the first in {_place(faults[0])}")
            rows += read_rows(folder)
        update(ROWS, "writing Parquet")
        return _write(rows, output, licence, title)


def read_rows(folder: Path) -> list[Row]:
    """Rows of a data set. Raises `InputError` if its file cannot be read."""
    rows: list[Row] = _table(folder).to_pylist()
    return rows


def faults_of(folder: Path, *, update: Update = lambda share, text: None) -> Iterator[Fault]:
    """Deviations of a data set from its schema, units and valid ranges, and of rows from themselves.

    Args:
        folder: The data set.
        update: Called with the share of the rows that are compared, and words for it.

    Raises:
        InputError: The file of its data cannot be read.
    """
    table = _table(folder)
    yield from _card_faults(folder)
    if not table.num_rows:
        yield Fault(0, DATA, "has no rows")
    wrong = set()
    for field in SCHEMA:
        index = table.schema.get_field_index(field.name)
        found = table.schema.field(index) if index >= 0 else None
        unit = (found.metadata or {}).get(UNIT, b"") if found is not None else b""
        if found is None:
            yield Fault(0, field.name, f"is missing; it is of type {field.type}")
        elif found.type != field.type:
            yield Fault(0, field.name, f"must be of type {field.type}, not {found.type}")
        elif unit != field.metadata[UNIT]:
            yield Fault(0, field.name, f"must have the unit {field.metadata[UNIT].decode()!r}, not {unit.decode()!r}")
        if found is None or found.type != field.type:
            wrong.add(field.name)
    yield from (
        Fault(0, name, "is not a column of this schema") for name in table.column_names if name not in SCHEMA.names
    )
    seen: dict[str, int] = {}
    for number, row in enumerate(table.to_pylist(), 1):
        update((number - 1) / table.num_rows, f"row {number} of {table.num_rows}")
        yield from (Fault(number, *each) for each in _row_faults(row, wrong))
        if not wrong and (first := seen.setdefault(row["id"], number)) != number:
            yield Fault(number, "id", f"is that of row {first}")


def _row_faults(row: Row, wrong: set[str]) -> Iterator[tuple[str, str]]:
    """Columns with reasons; only those of single columns if the schema is wrong."""
    sound = True
    for field in FIELDS:
        if field.name not in wrong:
            for fault in field.faults(row[field.name]):
                sound = False
                yield field.name, fault
    if wrong or not sound:
        return
    for lower, middle, upper in (("lower_s", "latency_s", "upper_s"), ("overhead_lower", "overhead", "overhead_upper")):
        if not row[lower] <= row[middle] <= row[upper]:
            yield middle, f"must lie between {lower} and {upper}, {row[lower]:g} to {row[upper]:g}, not {row[middle]:g}"
    rounds = len(row["round"])
    for name in ("opening", "samples_s", "reference_samples_s"):
        if len(row[name]) != rounds or not rounds:
            yield name, f"must have an entry for each of the {rounds} rounds, and at least one; it has {len(row[name])}"
    for name in ("samples_s", "reference_samples_s"):
        if not all(row[name]):
            yield name, "must have a sample in every round"
    sites = [each["site"] for each in row["ranks"]]
    if len(set(sites)) < len(sites):
        yield "ranks", "must name each site once"
    if len(sites) > row["linears"]:
        yield "ranks", f"must be of at most {row['linears']} linears, not {len(sites)}"
    if row["id"] != identity(row):
        yield "id", f"must be {identity(row)}, the hash of the other columns; the row was changed"


def _table(folder: Path) -> pa.Table:
    if not folder.exists():
        raise InputError(f"there is no data set {str(folder)!r}; name a folder that a data set's export wrote")
    file = folder / DATA if folder.is_dir() else folder
    try:
        return pq.read_table(file)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{file} is no data set: {error}; it is what a data set's export writes") from error


def _card_faults(folder: Path) -> Iterator[Fault]:
    """The card is missing, or its header does not say what the hub needs."""
    card = (folder if folder.is_dir() else folder.parent) / CARD
    try:
        parts = card.read_text(encoding="utf-8").split("---\n", 2)
        header = yaml.safe_load(parts[1]) if len(parts) == 3 and not parts[0] else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        yield Fault(0, CARD, f"cannot be read: {' '.join(str(error).split())}")
        return
    if not isinstance(header, dict):
        yield Fault(0, CARD, "must begin with a header in YAML between lines of ---")
    elif "license" not in header or "configs" not in header:
        yield Fault(0, CARD, "must have license and configs in its header")


def _place(fault: Fault) -> str:
    place = fault.column if fault.column in (CARD, DATA) else f"column {fault.column}"
    return f"{f'row {fault.row}, ' if fault.row else ''}{place}, which {fault.problem}"


def _write(rows: Sequence[Row], folder: Path, licence: str, title: str, *, left_out: int = 0) -> Written:
    own = distinct(rows)
    table = pa.Table.from_pylist(own, schema=SCHEMA)
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd", compression_level=19)
    folder.mkdir(parents=True, exist_ok=True)
    card = card_of(own, title=title or folder.resolve().name, licence=licence)
    write_together({folder / DATA: buffer.getvalue().to_pybytes(), folder / CARD: card})
    sessions, devices = ({row[name] for row in own} for name in ("session", "device"))
    return Written(folder, len(own), len(sessions), tuple(sorted(devices)), left_out, len(rows) - len(own))


def card_of(rows: Sequence[Row], *, title: str, licence: str) -> str:
    """Card of a data set with the header that the hub reads."""
    header: dict[str, Any] = {
        "license": licence,
        "pretty_name": title,
        "tags": ["lora", "latency", "benchmark", "on-device", "adaptare"],
        "size_categories": [next((name for most, name in SIZES.items() if len(rows) < most), "n>10M")],
        "configs": [{"config_name": "default", "data_files": DATA}],
    }
    kinds = Counter(tuple(row[name] for name in COUNTED) for row in rows)
    table = [" | ".join(map(str, (*kind, count))) for kind, count in kinds.items()]
    columns = [f"{field.name} | {field.kind} | {field.unit} | {field.meaning}" for field in FIELDS]
    dates = sorted(row["taken_at"][:10] for row in rows)
    sessions = len({row["session"] for row in rows})
    return "\n".join(
        [
            "---",
            yaml.safe_dump(header, sort_keys=False).rstrip(),
            "---",
            "",
            f"# {title}",
            "",
            f"Latency of language models with low-rank adapters: {len(rows)} measurements in {sessions} sessions from "
            f"{dates[0]} to {dates[-1]}, with every sample. Each round visits every adapter in random order, and the "
            "base without adapter. Overheads and their 95 % intervals are of the ratio to the base in the same rounds, "
            "over several loads of the programs.",
            "",
            *_markdown(" | ".join((*COUNTED, "rows")), table),
            "",
            "```python",
            "import pandas",
            "",
            f'rows = pandas.read_parquet("{DATA}")',
            "```",
            "",
            *_markdown("column | type | unit | meaning", columns),
            "",
        ]
    )


def _markdown(heading: str, rows: Sequence[str]) -> Iterator[str]:
    yield f"| {heading} |"
    yield f"|{'---|' * (heading.count(' | ') + 1)}"
    yield from (f"| {row} |" for row in rows)
