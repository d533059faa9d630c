"""`adaptare export`."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from adaptare.arguments import CacheOption, JsonOption, Quantisation
from adaptare.console import Console, command

# Copied from `adaptare.workflows.exporting`.
Kind = Literal[
    "peft", "peft-portable", "peft-uniform", "merged", "onnx", "onnx-static", "onnx-swappable", "onnx-adapter"
]

# Kinds that PyTorch reads.
FOR_TORCH: Final = ("peft", "peft-portable", "peft-uniform", "merged")


@command
def export(
    source: Annotated[
        Path, typer.Argument(metavar="FRONT", help="What adaptare search wrote, or a PEFT folder with --base.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    winner: Annotated[
        int | None, typer.Option("--winner", help="Number of the winner, from 1.", show_default="1")
    ] = None,
    base: Annotated[
        str | None, typer.Option("--base", help="The base model of a PEFT folder.", show_default="of the search")
    ] = None,
    base_name: Annotated[
        str | None,
        typer.Option("--base-name", help="Hub id by which others load the base.", show_default="its own"),
    ] = None,
    to: Annotated[
        Kind,
        typer.Option(
            "--to",
            help="An adapter for PEFT, for llama.cpp (peft-portable), or for vLLM and Olive (peft-uniform); a merged "
            "model for transformers; a model for ONNX Runtime with the adapter merged (onnx), as constants, or to be "
            "swapped; an adapter for that last one.",
        ),
    ] = "peft",
    quantise: Annotated[
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
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> int:
    """Writes a winner, or an adapter of your own, as files that stock PEFT, transformers or ONNX Runtime load."""
    from adaptare.core import InputError
    from adaptare.profiler.programs.onnx.bases import OnnxBases
    from adaptare.workflows.adapter_files import CONFIG

    console = Console(as_json=as_json)
    _check_quantisation(to, quantise)
    if every_site is not None and to != "onnx-swappable":
        raise InputError(f"{'--open' if every_site else '--cut'} is for --to onnx-swappable, not {to}; leave it out")
    if base_name is not None and to != "onnx-adapter" and not to.startswith("peft"):
        raise InputError(f"--base-name is for an adapter, not for --to {to}, which holds its base; leave it out")
    source = source.parent if source.name == CONFIG and source.is_file() else source
    of_folder = (source / CONFIG).is_file()
    if of_folder and to == "peft":
        raise InputError(f"{source} is an adapter for PEFT already; choose another kind with --to")
    if of_folder and winner is not None:
        raise InputError(f"--winner is for the result of a search, and {source} is one adapter; leave it out")
    if of_folder and not base:
        raise InputError(f"{source} is an adapter without its base model; name that with --base")
    if base and not of_folder:
        raise InputError(f"--base is for a PEFT folder, which {source} is not; leave it out, the search knows its base")
    if to not in FOR_TORCH:
        OnnxBases(cache)  # reports missing packages before anything is loaded
    from adaptare.workflows.exporting import adapter_of, export_files, winner_of

    chosen = (
        adapter_of(source, str(base), cache=cache) if of_folder else winner_of(source, 1 if winner is None else winner)
    )
    if base_name is not None and chosen.prepared:
        raise InputError(
            f"--base-name {base_name}: a recipe changed the base of this adapter, so it fits {chosen.base} alone; "
            "leave it out"
        )
    chosen = replace(chosen, base_name=base_name or chosen.base_name)
    report = export_files(
        chosen, to, output, quantisation=quantise, every_site=every_site, cache=cache, note=console.note
    )
    return console.show(report)


def _check_quantisation(to: Kind, quantise: str | None) -> None:
    from adaptare.core import InputError

    if quantise in (None, "none"):
        return
    if to == "onnx-adapter":
        raise InputError(f"--quantise {quantise}: an adapter file is the same for every base; leave it out")
    if to in FOR_TORCH:
        raise InputError(f"--quantise {quantise}: {to} is written in floating point; give --to onnx, or leave it out")
