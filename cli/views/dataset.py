from collections.abc import Iterator, Mapping
from typing import Any, Final

from adaptare.core.table import Column, Note, Section, Table
from adaptare.core.units import counted
from adaptare.exit_codes import ExitCode
from adaptare.views import command_line
from adaptare.workflows.dataset.files import Fault, Written

# Beyond these rows, the number of further faults is printed; the JSON has all.
SHOWN: Final = 50
COLUMNS: Final[tuple[Column[Fault], ...]] = (
    Column("row", lambda fault: str(fault.row or "all")),
    Column("column", lambda fault: fault.column, folds=True),
    Column("problem", lambda fault: fault.problem, folds=True),
)


def sections(written: Written) -> Iterator[Section]:
    """The number of rows, what was left out, and the next command."""
    where = f"{counted(written.rows, 'row')} of {counted(written.sessions, 'session')} on {', '.join(written.devices)}"
    yield f"written: {written.folder}: {where}"
    if written.left_out:
        yield Note(f"{written.left_out} incomplete measurements, or of parts of models, are left out")
    if written.duplicates:
        yield Note(f"{counted(written.duplicates, 'row')} came more than once and are written once")
    yield Note(f"next: {command_line('dataset', 'validate', written.folder)}")


def fault_sections(found: Mapping[str, Any]) -> Iterator[Section]:
    """A table of the first `faults` of a `folder`, and their number."""
    folder, faults = found["folder"], found["faults"]
    if faults:
        yield Table(f"Faults of {folder}", COLUMNS, faults[:SHOWN])
    yield f"{folder}: {counted(len(faults), 'fault')}" if faults else f"{folder} is valid"


def exit_code(found: Mapping[str, Any]) -> ExitCode:
    """1 if there is a fault."""
    return ExitCode.ANSWER_IS_NO if found["faults"] else ExitCode.DONE
