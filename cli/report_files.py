"""Pages and figures of results, as files."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adaptare.console import Console
from adaptare.core import AdaptareError, InputError, StorageError
from adaptare.core.lazy_names import check_installed
from adaptare.core.table import Section
from adaptare.core.whole_file import write_whole
from adaptare.exit_codes import ExitCode
from adaptare.figures import draw
from adaptare.views.report.page import InputChapters, page, parts_of
from adaptare.workflows.overhead.overhead import OverheadReport
from adaptare.workflows.overhead.side_by_side import SideBySide
from adaptare.workflows.reporting.inputs import Source, just_measured, read_source


@dataclass(frozen=True)
class WrittenReport:
    """Files of a report.

    Args:
        chapters: Headings of each input.
        figures: Files of the figures; empty unless they were requested.
    """

    page: Path
    chapters: Mapping[str, Sequence[str]]
    figures: Sequence[Path]


def check_report(file: Path, folders: Mapping[str, Path] | None = None) -> None:
    """Raises `InputError` if files of a report cannot be written, and `MissingPackageError` if none can be made.

    Args:
        file: The page.
        folders: Suffix -> folder of figures.
    """
    if file.suffix not in (".html", ".htm"):
        raise InputError(f"a report is a page that ends in .html, not {str(file)!r}")
    if not file.parent.is_dir():
        raise InputError(f"there is no folder {str(file.parent)!r} for the report; create it, or name another")
    if others := [folder for folder in (folders or {}).values() if folder.exists() and not folder.is_dir()]:
        raise InputError(f"figures are written to a folder, and {str(others[0])!r} is a file; name another")
    check_installed("plotly", "jinja2", *["matplotlib"] * bool(folders))


def write_report(sources: Sequence[Source], file: Path, folders: Mapping[str, Path] | None = None) -> WrittenReport:
    """Writes a page of results, and each of its figures into a folder for each suffix.

    Raises:
        StorageError: A file cannot be written.
    """
    parts = parts_of(sources)
    title = f"adaptare: {', '.join(Path(source.name).name or source.name for source in sources)}"
    try:
        write_whole(file, page(parts, title=title))
        for folder in (folders or {}).values():
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"the report {str(file)!r} cannot be written: {error.strerror or error}") from error
    figures = [figure for suffix, folder in (folders or {}).items() for figure in _drawn(parts, folder, suffix)]
    return WrittenReport(file, {part.name: [chapter.heading for chapter in part.chapters] for part in parts}, figures)


def sections(report: WrittenReport) -> Iterator[Section]:
    """Chapters and files."""
    for name, headings in report.chapters.items():
        yield f"{name}: {'; '.join(headings)}"
    if report.figures:
        yield f"figures: {len(report.figures)} in {', '.join(sorted({str(file.parent) for file in report.figures}))}"
    yield f"written: {report.page}; open it in a browser"


def reported(result: OverheadReport | SideBySide, file: Path, console: Console, *, name: str, store: str) -> ExitCode:
    """Writes the page of a measurement and says where it is. Returns the exit code."""
    try:
        write_report([just_measured(name, result, store)], file)
    except InputError as error:
        console.note(str(error))
        return ExitCode.BAD_INPUT
    console.note(f"report: {file}")
    return ExitCode.DONE


def report_folder(folder: Path, console: Console) -> None:
    """Writes the page of a run into its folder and says where it is, or why there is none: the run itself is done."""
    file = folder / "report.html"
    try:
        check_report(file)
        write_report([read_source(str(folder))], file)
    except AdaptareError as error:
        console.note(f"no report: {error}")
    else:
        console.note(f"report: {file}")


def _drawn(parts: Sequence[InputChapters], folder: Path, suffix: str) -> list[Path]:
    charts = [chart for part in parts for chapter in part.chapters for chart in chapter.charts]
    files = [folder / f"{number:02}-{chart.name}{suffix}" for number, chart in enumerate(charts, start=1)]
    for chart, file in zip(charts, files, strict=True):
        draw(chart, file)
    return files
