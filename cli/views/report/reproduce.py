from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from adaptare import VERSION
from adaptare.core.table import Column, Section, Table
from adaptare.core.units import megabytes
from adaptare.views import command_line
from adaptare.workflows.overhead.overhead import OverheadReport
from adaptare.workflows.overhead.side_by_side import SideBySide
from adaptare.workflows.reporting.inputs import ReadFile, Source
from adaptare.workflows.reporting.store_report import StoreReport
from adaptare.workflows.search.result import SHRUNK, SearchResult
from adaptare.workflows.target import spelled

FILES: Final[tuple[Column[ReadFile], ...]] = (
    Column("file", lambda file: str(file.path), folds=True),
    Column("MB", lambda file: megabytes(file.size_bytes)),
    Column("SHA-256", lambda file: file.digest, folds=True),
)
# Parameter of a request -> option of the command; several values are joined by commas, or the option is repeated.
JOINED: Final = {"ranks": "--rank", "prompts": "-p", "depths": "-d"}
REPEATED: Final = {"placements": "--sites", "budgets": "--budget"}
RENAMED: Final = {"generated": "-n"}
NOTHING: Final = {"prompts": "0", "depths": "-1"}
PER_CENT: Final = ("half_width", "band")
# Parameters of `tune` that its options set.
TUNE: Final = ("data", "device", "budgets", "steps", "max_tokens", "held_out", "bf16", "seed")


def sections(source: Source) -> Iterator[Section]:
    """Commands, versions, sessions with seeds, and files with hashes."""
    for result in source.results:
        yield from dict.fromkeys(_lines(result))
    if source.request:
        given = {name: source.request.get(name) for name in TUNE}
        yield f"run: {command_line('tune', source.request.get('model'), *_options(given), '-o', source.name)}"
        others = {name: value for name, value in source.request.items() if name not in (*given, "model", "schema")}
        yield f"its other parameters: {', '.join(f'{name} {value}' for name, value in others.items())}"
    yield f"page written by adaptare {VERSION}"
    if source.files:
        yield f"this page again: {command_line('report', source.name)}"
        yield Table("Files", FILES, source.files)


def _lines(result: object) -> Iterator[str]:
    if isinstance(result, SideBySide):
        for device in result.devices:
            yield from _lines(device.report)
    if isinstance(result, OverheadReport) and result.provenance:
        made = result.provenance
        given = {name: value for name, value in made.request.items() if name not in ("model", "adapters")}
        adapters = made.request.get("adapters") or []
        names = [adapters] if isinstance(adapters, str) else adapters
        given["device"] = spelled(result.device, result.quantisation, result.dtype)
        yield f"measured by: {command_line('overhead', result.model, *names, *_options(given))}"
        yield (
            f"adaptare {made.version}, {made.device.runtime}; seed {made.request.get('seed', 0)}; sessions "
            f"{', '.join(made.sessions)} of {made.store}"
        )
    if isinstance(result, StoreReport):
        runtimes = dict.fromkeys(device.info.runtime for device in result.sessions.devices)
        names = ", ".join(each.session for each in result.sessions.timelines) or "none"
        yield f"sessions {names}; {', '.join(runtimes)}"
    if isinstance(result, SearchResult):
        where = spelled(result.place.device, result.place.quantisation, result.place.dtype)
        place = f"{result.place.model} on {where}, {result.place.phase} {result.place.length}"
        pairs = [
            word for each in result.under_each for word in ("--predictor", each.predictor, "--budget", each.budget)
        ]
        algorithms = sorted(result.evaluations, key=lambda name: name == "random")[:1]  # random is compared with others
        options = [
            *(["--bf16"] if result.bf16 else []),
            *(word for each in algorithms for word in ("--algorithm", each)),
        ]
        if result.file is None or result.file.name != SHRUNK:
            output = ["-o", result.file] if result.file else []
            yield f"{place}: {command_line('search', result.folder, *pairs, *options, *output)}"
        if result.file:
            yield f"measured again: {command_line('verify', result.file)}"


def _options(given: Mapping[str, Any]) -> Sequence[str]:
    """Words of the options of a request."""
    return [word for name, value in given.items() for word in _option(name, value)]


def _option(name: str, value: Any) -> Sequence[str]:
    option = RENAMED.get(name, f"--{name.replace('_', '-')}")
    if name in REPEATED:
        return [word for each in value or () for word in (REPEATED[name], str(each))]
    if name in JOINED:
        return [JOINED[name], ",".join(map(str, value)) or NOTHING.get(name, "")]
    if value is None or value is False:
        return []
    if value is True:
        return [option]
    return [option, f"{100 * value:g}%" if name in PER_CENT else str(value)]
