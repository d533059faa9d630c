from collections.abc import Iterator

from adaptare.core.table import Section
from adaptare.report_files import WrittenReport


def sections(report: WrittenReport) -> Iterator[Section]:
    """Chapters and files."""
    for name, headings in report.chapters.items():
        yield f"{name}: {', '.join(headings)}"
    if report.figures:
        yield f"figures: {len(report.figures)} in {', '.join(sorted({str(file.parent) for file in report.figures}))}"
    yield f"written: {report.page}; open it in a browser"
