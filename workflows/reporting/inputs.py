"""Files and folders to report on, recognised by their content."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Final, get_args

from adaptare.core import InputError
from adaptare.core.codec import from_json
from adaptare.core.progress import SILENT, Feedback
from adaptare.core.strict_json import parse_json
from adaptare.predictor import FittedPredictor, load_predictor
from adaptare.profiler import Store
from adaptare.profiler.store import ForeignDatabaseError
from adaptare.workflows.comparison import Comparison
from adaptare.workflows.fit.fitting import FitResult
from adaptare.workflows.fit.predicting import PredictResult
from adaptare.workflows.overhead.overhead import OverheadReport
from adaptare.workflows.overhead.side_by_side import SideBySide
from adaptare.workflows.profiling.calls import OperatorsResult, PartsResult
from adaptare.workflows.profiling.space_report import SpaceReport
from adaptare.workflows.reporting.store_report import Sessions, StoreReport, report_store, sessions_of
from adaptare.workflows.search.result import SearchResult, load_result
from adaptare.workflows.train.result import TrainResult

Result = (
    OverheadReport
    | SideBySide
    | FitResult
    | FittedPredictor
    | PredictResult
    | OperatorsResult
    | PartsResult
    | SpaceReport
    | SearchResult
    | Comparison
    | TrainResult
    | StoreReport
    | Sessions
)
# Results that a command prints as JSON; each is recognised by its fields.
PRINTED: Final = [
    kind for kind in get_args(Result) if kind not in (FittedPredictor, SearchResult, StoreReport, Sessions)
]
SQLITE: Final = b"SQLite format 3\0"
KNOWN: Final = "a store, a front, a predictor, the JSON of a result, or the folder of a run"
STORES: Final = (".db", ".sqlite")
# Files of a run that goes from a model to an adapter: its request, and results of its steps.
REQUEST: Final = "tune.json"
FRONT: Final = "front.json"
VERIFIED: Final = "verified.json"
FIRST_LOOK: Final = "first-look.json"


@dataclass(frozen=True)
class ReadFile:
    """A file that a report is made of, with its SHA-256."""

    path: Path
    size_bytes: int
    digest: str


@dataclass(frozen=True)
class Source:
    """One input of a report.

    Args:
        name: As given, without a password.
        results: Everything in it: what was found first, and all measurements last.
        files: The files that were read; none for a database URL.
        request: Parameters of the run that made it; empty if unknown.
    """

    name: str
    results: Sequence[Result]
    files: Sequence[ReadFile] = ()
    request: Mapping[str, Any] | None = None


def read_source(place: str, *, feedback: Feedback = SILENT) -> Source:
    """Reads a store, a file or a folder. Raises `InputError` if it is neither."""
    path = Path(place)
    if "://" in place:
        store = Store(place, create=False)
        return Source(store.location, [report_store(store, feedback=feedback)])
    if path.is_dir():
        return _read_folder(place, path, feedback)
    if not path.exists():
        raise InputError(f"there is no file {place!r}; give {KNOWN}")
    return Source(place, [_read_file(path, feedback)], [_digested(path)])


def just_measured(name: str, result: OverheadReport | SideBySide, store: str) -> Source:
    """A result as it came from its workflow, with the sessions that its store has of it."""
    reports = [each.report for each in result.devices] if isinstance(result, SideBySide) else [result]
    made = [report.provenance for report in reports if report and report.provenance]
    names = {session for each in made for session in each.sessions}
    rows = [row for row in Store(store, create=False).measurements() if row.session in names] if names else []
    return Source(name, [result, sessions_of(rows)])


def _read_folder(place: str, folder: Path, feedback: Feedback) -> Source:
    files = [file for file in sorted(folder.iterdir()) if file.is_file()]
    found = {file: _read_file(file, feedback) for file in files if _holds_store(file) or _holds_result(file)}
    if not found:
        raise InputError(f"the folder {place!r} holds nothing to report; give {KNOWN}")
    if folder / VERIFIED in found:  # has all of the search, and more
        found.pop(folder / FRONT, None)
    if any(isinstance(result, StoreReport) for result in found.values()):  # has the measurements of the first look
        found.pop(folder / FIRST_LOOK, None)
    fitted = {result.predictor.name for result in found.values() if isinstance(result, FitResult)}
    for file in [file for file, result in found.items() if isinstance(result, FittedPredictor)]:
        if file.stem in fitted:  # with the predictions of held-out adapters
            found.pop(file)
    request = _parsed(folder / REQUEST) if folder / REQUEST in files else None
    results = sorted(found.values(), key=_place)
    return Source(place, results, list(map(_digested, found)), request)


def _place(result: Result) -> int:
    """Winners come first, and stores last."""
    return isinstance(result, StoreReport) - isinstance(result, SearchResult)


def _holds_store(file: Path) -> bool:
    """True for a store, also a damaged one; false for databases of other programs."""
    if file.suffix not in STORES or not _begins_as_sqlite(file):
        return False
    try:
        Store(file, create=False).close()
    except ForeignDatabaseError:
        return False
    except InputError:  # reading it will say what is wrong
        return True
    return True


def _holds_result(file: Path) -> bool:
    try:
        return file.suffix == ".json" and _reader_of(_parsed(file)) is not None
    except InputError:
        return False


def _read_file(file: Path, feedback: Feedback) -> Result:
    """Result in a file. Raises `InputError` if it holds none."""
    if _begins_as_sqlite(file) or not file.stat().st_size:
        return report_store(Store(file, create=False), feedback=feedback)
    if file.suffix == ".npz":
        return load_predictor(file)
    content = _parsed(file)
    if isinstance(content, dict) and set(content) == {"error"}:
        raise InputError(f"{str(file)!r} holds an error instead of a result: {content['error']}")
    read = _reader_of(content)
    if read is None:
        raise InputError(f"{str(file)!r} holds no result that can be reported; give {KNOWN}")
    return read(file)


def _begins_as_sqlite(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(len(SQLITE)) == SQLITE


def _reader_of(content: Any) -> Callable[[Path], Result] | None:
    """Reader of a file with this JSON; `None` if that is no result."""
    if not isinstance(content, dict):
        return None
    if "arrays_sha256" in content:
        return load_predictor
    if {"winners", "budget"} <= content.keys():
        return load_result if "schema" in content else partial(_as_result, SearchResult, content)
    content.pop("schema", None)
    kind = next((kind for kind in PRINTED if _has_fields(kind, content)), None)
    return kind and partial(_as_result, kind, content)


def _as_result(kind: type[Any], content: Mapping[str, Any], file: Path) -> Result:
    try:
        result: Result = from_json(kind, content)
    except InputError as error:
        raise InputError(f"{str(file)!r} cannot be reported: {error}; run the command that wrote it again") from error
    return result


def _has_fields(kind: type[Any], content: Mapping[str, Any]) -> bool:
    own = [each for each in fields(kind) if each.init]
    needed = {each.name for each in own if each.default is MISSING and each.default_factory is MISSING}
    return needed <= content.keys() <= {each.name for each in own}


def _parsed(file: Path) -> Any:
    try:
        return parse_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{str(file)!r} cannot be read: {error}; give {KNOWN}") from error


def _digested(file: Path) -> ReadFile:
    content = file.read_bytes()
    return ReadFile(file, len(content), hashlib.sha256(content).hexdigest())
