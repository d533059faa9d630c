from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperCommand

from adaptare.arguments import CacheOption, Quantisation, registered
from adaptare.console import command, console, requested
from adaptare.core.extensions import extensions

GROUP: Final = "adaptare.exports"
if TYPE_CHECKING:
    from adaptare.search import ExportKind


class ExportCommand(TyperCommand):
    """Lists the kinds of exports below the options."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Name and summary of each registered kind, and an example."""
        from adaptare.search.export import export_kind

        with formatter.section("Kinds of files"):
            formatter.write_dl([(name, export_kind(name).summary) for name in extensions(GROUP)])
        super().format_epilog(ctx, formatter)


@command
def export(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FRONT",
            help="What adaptare search wrote, a folder of adaptare train, or a PEFT folder with --base.",
        ),
    ],
    folder: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    winner: Annotated[
        int | None, typer.Option("--winner", help="Number of the winner, from 1.", show_default="1")
    ] = None,
    choice: Annotated[
        str | None,
        typer.Option(
            "--choice",
            help="Another adapter: start, minimal, maximal, midpoint, uniform-8, uniform-1152 (width), 22-layers, a "
            "row of FRONT, or a JSON file of ranks.",
            show_default="the winner",
        ),
    ] = None,
    base: Annotated[
        str | None, typer.Option("--base", help="The base model of a PEFT folder.", show_default="of the search")
    ] = None,
    base_name: Annotated[
        str | None,
        typer.Option("--base-name", help="Hub id by which others load the base.", show_default="its own"),
    ] = None,
    kind: Annotated[
        str, typer.Option("--to", help="Kind of files, see below.", autocompletion=registered(GROUP))
    ] = "peft",
    quantisation: Annotated[
        Quantisation | None,
        typer.Option(
            "--quantise",
            help="Quantisation of the weights of a model for ONNX Runtime.",
            show_default="as it was trained",
        ),
    ] = None,
    every_site: Annotated[
        bool | None,
        typer.Option(
            "--open/--cut",
            help="A model with swappable adapters takes them on every site (open), or on those of the winner (cut).",
            show_default="as latency was predicted",
        ),
    ] = None,
    adapter_of: Annotated[
        Path | None,
        typer.Option(
            "--adapter-of",
            help="Folder of onnxruntime-genai that takes adapters; onnx-adapter names its inputs as that graph does.",
            show_default="an export of adaptare",
        ),
    ] = None,
    cache: CacheOption = None,
) -> int:
    """Writes an adapter as files for the program that runs it.

    The adapter is a winner of a search, or your own.
    """
    from adaptare.core import InputError
    from adaptare.profiler.workloads import CONFIG
    from adaptare.search.export import export_kind
    from adaptare.views import export as view
    from adaptare.workflows.exporting import ExportRequest, export_files

    chosen = export_kind(kind)
    _check_options(
        chosen,
        quantisation=f"--quantise {quantisation}" if quantisation not in (None, "none") else "",
        every_site="" if every_site is None else "--open" if every_site else "--cut",
        base_name="--base-name" if base_name is not None else "",
        adapter_of="--adapter-of" if adapter_of is not None else "",
    )
    source = source.parent if source.name == CONFIG and source.is_file() else source
    of_folder = (source / CONFIG).is_file()
    if of_folder and kind == "peft":
        raise InputError(f"{source} is an adapter for PEFT already; choose another kind with --to")
    if of_folder and (winner is not None or choice is not None):
        given = "--choice" if winner is None else "--winner"
        raise InputError(f"{given} is for a super-adapter, and {source} is one adapter; leave it out")
    if winner is not None and choice is not None:
        raise InputError("--winner and --choice both say which adapter; leave one out")
    if of_folder and not base:
        raise InputError(f"{source} is an adapter without its base model; name that with --base")
    if base and not of_folder:
        raise InputError(
            f"--base is for a PEFT folder, which {source} is not; leave it out, its training knows the base"
        )
    request = requested(ExportRequest, source=source, kind=chosen)
    result = export_files(request, feedback=console().feedback)
    return console().show(result, view.sections)


def _check_options(chosen: "ExportKind", **given: str) -> None:
    """Raises `InputError` if a kind of export has no such option; `given` has the words of each, empty if not given."""
    from adaptare.core import InputError
    from adaptare.search.export import export_kind

    for name, words in given.items():
        if words and name not in chosen.options:
            takers = [kind for kind in extensions(GROUP) if name in export_kind(kind).options]
            raise InputError(f"{words} is for --to {', '.join(takers)}, not {chosen.name}; leave it out")
