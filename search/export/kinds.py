"""Kinds of exports, and the one way to write them, with a model card."""

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from adaptare.core import InputError
from adaptare.core.content_hash import Json
from adaptare.core.extensions import named_extension
from adaptare.core.progress import Update
from adaptare.core.quantisation import QUANTISATIONS, Quantisation, check_quantisation
from adaptare.profiler.models import dequantised_file
from adaptare.profiler.workloads import SubAdapter
from adaptare.search.export.check import Expectation, check
from adaptare.search.export.folder import export_folder

if TYPE_CHECKING:
    from adaptare.search.super_adapter import Base

# Entry points are named after their kind; each is an `ExportKind`.
EXPORTS: Final = "adaptare.exports"
CARD: Final = "README.md"
# Stands for the name of the base in a snippet.
PLACE: Final = "BASE"
# Share of an export's time that writing takes; the rest is for running what was written.
WRITTEN: Final = 0.5
# Adapter and its base.
Adapted: TypeAlias = "SubAdapter[Base]"
Option = Literal["quantisation", "every_site", "base_name", "adapter_of"]


@dataclass(frozen=True)
class ExportOptions:
    """Options of an export.

    Args:
        quantisation: Quantisation of the weights of a model.
        every_site: A model with swappable adapters takes them on every site, not only on those of its own adapter.
        cache: Folder that keeps exported bases; default: the user's cache folder.
        note: Called with a message before each long step.
        adapter_of: Folder of onnxruntime-genai that an adapter is written for; default: any export of adaptare.
        update: Called with the share of an export that is done, and its present step.
    """

    quantisation: Quantisation = "none"
    every_site: bool = False
    cache: Path | None = None
    note: Callable[[str], None] = lambda text: None
    adapter_of: Path | None = None
    update: Update = lambda share, text: None


DEFAULT: Final = ExportOptions()


@dataclass(frozen=True)
class ExportKind:
    """File format of an exported sub-adapter; registered as an entry point in the group `adaptare.exports`.

    Args:
        name: Name of the entry point.
        summary: One line: the files, and which program reads them.
        snippet: At most twelve lines of Python that load the export in the current folder and generate text, for its
            model card. `BASE` stands for the name of the base.
        write: Writes the files into an existing empty folder.
        expectations: Readers of the files, each with the model that its logits must equal; none if they are not run.
        options: Options that the kind takes; `base_name` if it names its base instead of holding it.
        commands: Program -> its command, with places for `folder`, `base` and `rank`, the largest one.
        pads_ranks: True if every site is written with the largest rank.
        check_installed: Raises `MissingPackageError` if writing needs a package that is not installed.
        advice: What to do if a reader computes something else.
    """

    name: str
    summary: str
    snippet: str
    write: Callable[[Adapted, Path, ExportOptions], None]
    expectations: Callable[[Adapted, ExportOptions], Sequence[Expectation]] | None = None
    options: tuple[Option, ...] = ()
    commands: Mapping[str, str] | None = None
    pads_ranks: bool = False
    check_installed: Callable[[], None] = lambda: None
    advice: str = "export the merged model instead"

    def to_json(self) -> str:
        """The name."""
        return self.name


def export_kind(name: str) -> ExportKind:
    """The registered kind of this name. Raises `InputError`."""
    return named_extension(EXPORTS, name, ExportKind, kind="kind of export")


def export_adapter(
    adapted: Adapted,
    folder: str | Path,
    *,
    kind: str | ExportKind = "peft",
    options: ExportOptions = DEFAULT,
    more: Mapping[str, str] | None = None,
) -> float | None:
    """Writes a sub-adapter as files for other programs, which replace earlier files once they are read and checked.

    Args:
        adapted: Adapter and its base.
        folder: Absent, empty, or an earlier export, which is replaced.
        kind: Kind of files, or the name of a registered kind, such as `peft`, `merged` or `onnx`.
        options: Options of the kind.
        more: Name -> text of further files, which replace earlier ones together with the export.

    Returns:
        Largest difference of the logits from torch's, as `check` defines it; `None` if the kind is not run.

    Raises:
        InputError: The kind does not fit the adapter or an option, or the folder holds other files.
        MissingPackageError: A package is not installed.
        DeviceError: A reader computes something else, or failed; the folder is unchanged.
        StorageError: The folder could not be written; its earlier content is intact.
    """
    form = export_kind(kind) if isinstance(kind, str) else kind
    check_quantisation(options.quantisation)
    given: dict[Option, bool] = {"quantisation": options.quantisation != "none", "every_site": options.every_site}
    given["adapter_of"] = options.adapter_of is not None
    if unfit := [name for name, is_given in given.items() if is_given and name not in form.options]:
        raise InputError(f"an export of kind {form.name} has no {unfit[0]}; leave it out, or choose another kind")
    config = {name: value for name, value in adapted.configuration.to_json().items() if name != "kind"}
    origin: dict[str, Json] = {"schema": 1, "kind": form.name, "base_model": adapted.base.origin.name, **config}
    if "quantisation" in form.options:
        origin["quantisation"] = options.quantisation
    with export_folder(folder, origin=origin) as fresh:
        options.update(0.0, "writing the files")
        form.write(adapted, fresh, options)
        difference = _compared(form, adapted, fresh, options)
        for name, text in {CARD: _card(form, adapted, options, difference), **(more or {})}.items():
            (fresh / name).write_text(text, encoding="utf-8")
    return difference


def _compared(form: ExportKind, adapted: Adapted, folder: Path, options: ExportOptions) -> float | None:
    expectations = form.expectations(adapted, options) if form.expectations else ()
    if not expectations:
        return None
    options.note("comparing the logits of the written files with those of torch")
    words = f"the {form.name} export" + (f" in {options.quantisation}" if options.quantisation != "none" else "")

    def begun(number: int) -> None:
        share = WRITTEN + (1 - WRITTEN) * number / len(expectations)
        options.update(share, f"running the files in {expectations[number].name}")

    return check(folder, expectations, export=words, advice=form.advice, begun=begun)


def _card(kind: ExportKind, adapted: Adapted, options: ExportOptions, difference: float | None) -> str:
    """Model card, in Markdown: what the files hold, how far their logits are from torch's, and how to load them."""
    origin = adapted.base.origin
    given = f"base_model: {origin.name}\n" if origin.name else ""
    file = dequantised_file(origin.folder) if origin.folder else None
    base = origin.name or "not named; it has no hub id"
    if file:
        base += f"; made with the weights of {file}, which are rounded; they are dequantised when the file is read"
    form = QUANTISATIONS[options.quantisation]
    rows = {"Base": base, "Adapter": f"LoRA, {adapted.configuration.describe()}"}
    if "quantisation" in kind.options:
        rounding = "; ONNX Runtime also rounds activations" if form.rounds_activations else ""
        rows["Weights"] = f"{form.bits or 32}-bit weights{rounding}"
    rows["Logits"] = (
        f"differ by at most {difference:.1e} of the largest logit from those of torch with these weights"
        if difference is not None
        else "not compared with those of torch"
    )
    rows["Made by"] = f"adaptare {importlib.metadata.version('adaptare')}, export of kind `{kind.name}`"
    table = "\n".join(f"| {name} | {text} |" for name, text in rows.items())
    code = kind.snippet.replace(PLACE, origin.name) if origin.name else kind.snippet
    return (
        f"---\n{given}tags: [lora, adaptare]\n---\n\n# {kind.summary[0].upper()}{kind.summary[1:]}\n\n"
        f"| | |\n|---|---|\n{table}\n\nRun in this folder:\n\n```python\n{code.strip()}\n```\n"
    )
