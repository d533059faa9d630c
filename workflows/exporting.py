"""Export of a winner, or of a PEFT adapter, to files that unmodified PEFT, transformers or ONNX Runtime load."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from adaptare.core import InputError
from adaptare.core.progress import SILENT, Feedback, Update
from adaptare.predictor import load_predictor
from adaptare.profiler import Configuration, Quantisation, open_model
from adaptare.profiler.models import published_name
from adaptare.profiler.workloads import SubAdapter, kind_named
from adaptare.search import ExportKind, Origin, SuperAdapter, export_adapter, load_base
from adaptare.search.algorithms import baselines, uniform_cuts
from adaptare.search.export import ExportOptions, check_replaceable, import_peft
from adaptare.search.recipes import Recipe
from adaptare.search.super_adapter import Base
from adaptare.workflows.adapter_files import read_adapters
from adaptare.workflows.search.result import POLISHED, Choice, load_result
from adaptare.workflows.train.adaptation import reload_adaptation
from adaptare.workflows.train.task import FILE as TASK

# Share of an export's time that loading the base takes.
LOADED: Final = 0.3


@dataclass(frozen=True)
class ExportRequest:
    """Adapter to export, and the form of its files.

    Args:
        source: Result of a search, folder of a training, or a PEFT folder.
        folder: Absent, empty, or an earlier export, which is replaced.
        kind: Kind of files, see `export_kind`.
        base: Base model of a PEFT folder; `None` for other sources, which know their base.
        winner: Number of the winner, from 1.
        choice: Instead of a winner: a name of `_choices`, or a JSON file of ranks.
        base_name: Name by which others load the base; default: its own.
        quantisation: Quantisation of the weights of a model; default: as the adapter was trained.
        every_site: A swappable model takes adapters on every site; default: as latency was predicted.
        adapter_of: Folder of onnxruntime-genai that an adapter is written for.
        cache: Folder for converted models; default: the user's cache folder.
    """

    source: Path
    folder: Path
    kind: ExportKind
    base: str | None = None
    winner: int = 1
    choice: str | None = None
    base_name: str | None = None
    quantisation: Quantisation | None = None
    every_site: bool | None = None
    adapter_of: Path | None = None
    cache: Path | None = None


@dataclass(frozen=True)
class ExportResult:
    """Files that were written.

    Args:
        folder: Their folder.
        name: Row of the search's result, or the choice; empty for a PEFT folder, which is one adapter.
        quantisation: Quantisation of a model's weights.
        base: Folder of the base model.
        base_name: Name by which others load the base; `None` if it has none.
        prepared: True if a recipe changed the base, so that the adapter fits no other.
        open: True if every site takes an adapter.
        configuration: Ranks, and the widths and layers of the model.
        difference: Largest difference of the logits from torch's, over the largest; `None` if the files were not run.
    """

    folder: Path
    name: str
    kind: ExportKind
    quantisation: Quantisation
    base: Path
    base_name: str | None
    prepared: bool
    open: bool
    configuration: Configuration
    difference: float | None


def export_files(request: ExportRequest, *, feedback: Feedback = SILENT) -> ExportResult:
    """Writes one kind of files, and compares what their readers compute with torch.

    Args:
        request: Adapter and kind.
        feedback: Receives progress, and a note before each long step.

    Raises:
        InputError: The source cannot be read, or the kind does not fit the adapter or an option.
        MissingPackageError: A package is not installed.
        DeviceError: A reader computes something else; the folder is unchanged.
        StorageError: The folder could not be written; its earlier content is intact.
    """
    request.kind.check_installed()  # before anything is loaded
    check_replaceable(request.folder, read=(request.source, request.base, request.adapter_of))
    with feedback.progress("exporting") as update:
        return _exported(request, feedback.note, update)


def _exported(request: ExportRequest, note: Callable[[str], None], update: Update) -> ExportResult:
    kind = request.kind
    update(0.0, "loading the base")
    if request.base is not None:
        name, adapted, predictor = "", _peft_adapter(request), None
    else:
        name, adapted, predictor = _sub_adapter(request, note)
    origin = adapted.base.origin
    if request.base_name is not None and origin.prepared:
        raise InputError(
            f"a recipe changed the base of this adapter, so it fits {origin.folder} alone and not the base named "
            f"{request.base_name!r}; leave the base name out"
        )
    origin = replace(origin, name=request.base_name or origin.name)
    every_site = request.every_site
    if every_site is None:
        every_site = "every_site" in kind.options and predictor is not None and _of_open_graphs(predictor, note)
    options = ExportOptions(
        quantisation=request.quantisation or (origin.quantisation if "quantisation" in kind.options else "none"),
        every_site=every_site,
        cache=request.cache,
        note=note,
        adapter_of=request.adapter_of,
        update=lambda share, text: update(LOADED + (1 - LOADED) * share, text),
    )
    adapted = replace(adapted, base=replace(adapted.base, origin=origin))
    if adapted.halves and not any(own.A.any() and own.B.any() for own in adapted.halves.values()):
        note("the adapter changes nothing: A or B is zero everywhere; is it trained?")
    difference = export_adapter(adapted, request.folder, kind=kind, options=options)
    return ExportResult(
        request.folder,
        name,
        kind,
        options.quantisation,
        origin.folder or Path(),
        origin.name,
        origin.prepared,
        options.every_site,
        adapted.configuration,
        difference,
    )


def _sub_adapter(request: ExportRequest, note: Callable[[str], None]) -> tuple[str, SubAdapter[Base], Path | None]:
    """Name and adapter of a winner or choice, and the predictor of its search."""
    folder, rows, predictor = request.source, tuple[Choice, ...](), None
    if not (folder / TASK).exists():
        result = load_result(request.source)
        if result.folder is None:
            raise InputError(f"{str(request.source)!r} names no folder of a super-adapter; search again")
        if not 1 <= request.winner <= len(result.winners):
            raise InputError(f"winner must be 1 to {len(result.winners)} in {request.source}, not {request.winner}")
        folder, rows, predictor = result.folder, (*result.winners, *result.baselines), result.predictor
    elif request.choice is None:
        raise InputError(
            f"{request.source} is of a training; say which of its adapters with a choice, such as start",
            parameter="choice",
        )
    adaptation, super_adapter = reload_adaptation(folder)
    if request.choice is not None:
        name = request.choice
        configuration = _chosen(name, super_adapter, _choices(super_adapter, adaptation.recipe, rows))
        _note_untrained(configuration, super_adapter, note)
    else:
        name, configuration = rows[request.winner - 1].name, rows[request.winner - 1].configuration
    return name, super_adapter.sub_adapter(configuration, adaptation.origin), predictor


def _of_open_graphs(predictor: Path, note: Callable[[str], None]) -> bool:
    """True if a predictor is of graphs in which every linear takes an adapter; false, and noted, if it is missing."""
    try:
        return load_predictor(predictor).template.graph == "open"
    except InputError as error:
        note(
            f"{error}; so whether latency was predicted for a graph in which every linear takes an adapter is unknown, "
            "and only linears with an adapter take one in these files"
        )
        return False


def _note_untrained(configuration: Configuration, super_adapter: SuperAdapter, note: Callable[[str], None]) -> None:
    """Notes a rank that is no choice of the space, so that no training step has drawn it."""
    for axis in super_adapter.space.axes:
        ranks = [
            configuration.by_path.get(each.place, 0)
            for each in axis.dimensions
            if each.kind is kind_named("ranks") and each.layer not in configuration.left_out
        ]
        if others := sorted(set(ranks) - set(axis.choices)):
            choices = ", ".join(map(str, axis.choices))
            more = f" and {len(axis.dimensions) - 1} others" * (len(axis.dimensions) > 1)
            where = f"{axis.dimensions[0].place}{more}"
            note(f"rank {others[0]} is no choice of the training ({choices}), so no step has drawn it: {where}")
            return


def _choices(super_adapter: SuperAdapter, recipe: Recipe, rows: Sequence[Choice]) -> dict[str, Configuration]:
    """Configurations that need no search, and the rows of a search, by name."""
    space = super_adapter.space
    points = {
        "start": recipe.start(space),
        "minimal": 0 * space.highest,
        "maximal": space.highest,
        **uniform_cuts(space),
    }
    own = {name: space.decode(space.at(point)) for name, point in points.items()} | baselines(space)
    return own | {row.name: row.configuration for row in rows if row.name != POLISHED}


def _chosen(choice: str, super_adapter: SuperAdapter, known: Mapping[str, Configuration]) -> Configuration:
    """Configuration of a name, with blanks or hyphens between its words; or of a file."""
    by_words = {_words(name): configuration for name, configuration in known.items()}
    if _words(choice) in by_words:
        return by_words[_words(choice)]
    if not Path(choice).exists():
        raise InputError(
            f"choice must be one of {', '.join(map('-'.join, by_words))}, or a JSON file of ranks, not {choice!r}"
        )
    found = list(read_adapters(Path(choice), super_adapter.shape).values())
    if len(found) != 1:
        raise InputError(f"{choice!r} has {len(found)} adapters, and one is exported at a time; give a file of one")
    return found[0]


def _words(name: str) -> tuple[str, ...]:
    return tuple(word for word in name.replace("-", " ").split() if word not in ("width", "of"))


def _peft_adapter(request: ExportRequest) -> SubAdapter[Base]:
    base = str(request.base)
    folder = open_model(base, cache=request.cache).weights_folder().resolve()
    model, tokenizer = load_base(folder)
    return import_peft(request.source, model, Origin(folder, published_name(base, str(folder)), tokenizer))
