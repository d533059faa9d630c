import shlex
from collections.abc import Iterator

from adaptare.core.table import Note, Section
from adaptare.core.units import counted
from adaptare.workflows.dataset.files import Written


def sections(written: Written) -> Iterator[Section]:
    """The number of rows, what was left out, and the next command."""
    where = f"{counted(written.rows, 'row')} of {counted(written.sessions, 'session')} on {', '.join(written.devices)}"
    yield f"written: {written.folder}: {where}"
    if written.left_out:
        yield Note(f"{written.left_out} incomplete measurements, or of parts of models, are left out")
    if written.duplicates:
        yield Note(f"{counted(written.duplicates, 'row')} came more than once and are written once")
    yield Note(f"next: {shlex.join(['adaptare', 'dataset', 'validate', str(written.folder)])}")
