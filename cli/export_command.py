"""`adaptare export`."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from adaptare.arguments import CacheOption, JsonOption
from adaptare.console import Console, command

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from adaptare.profiler import AdapterConfig, Quantisation
    from adaptare.search import SuperAdapter

Kind = Literal["peft", "merged", "onnx", "onnx-static", "onnx-swappable", "onnx_adapter"]
ONNX_KINDS: tuple[Kind, ...] = ("onnx", "onnx-static", "onnx-swappable", "onnx_adapter")
ADAPTER = "adapter = onnxruntime.LoraAdapter(); adapter.Load({adapter!r})"
# Kind -> the Python that loads what was written.
LOADING: dict[Kind, str] = {
    "peft": "PeftModel.from_pretrained(base, {folder!r})",
    "merged": "AutoModelForCausalLM.from_pretrained({folder!r})",
    "onnx": "session = onnxruntime.InferenceSession({model!r})",
    "onnx-static": "session = onnxruntime.InferenceSession({model!r})",
    "onnx-swappable": f"session = onnxruntime.InferenceSession({{model!r}}); {ADAPTER}; "
    "options = onnxruntime.RunOptions(); options.add_active_adapter(adapter); session.run(None, inputs, options)",
    "onnx_adapter": ADAPTER,
}


@dataclass(frozen=True)
class Exported:
    """What is exported, and onto what.

    Args:
        super_adapter: Has the weights.
        config: Sites and ranks.
        base: Folder of the base model.
        base_name: What others load it by.
        tokenizer: Written beside models.
        quantisation: Of the base that the adapter was trained on.
        every_site: Whether latency was predicted where every site is open.
    """

    super_adapter: "SuperAdapter"
    config: "AdapterConfig"
    base: str
    base_name: str
    tokenizer: "PreTrainedTokenizerBase"
    quantisation: "Quantisation"
    every_site: bool


@command
def export(
    source: Annotated[
        Path, typer.Argument(metavar="FRONT", help="What adaptare search wrote, or a PEFT folder with --base.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    winner: Annotated[int | None, typer.Option("--winner", help="Which of the winners.", show_default="1")] = None,
    base: Annotated[
        str | None, typer.Option("--base", help="The base model of a PEFT folder.", show_default="of the search")
    ] = None,
    to: Annotated[
        Kind,
        typer.Option(
            "--to",
            help="An adapter for PEFT; a merged model for transformers; a model for ONNX Runtime with the adapter "
            "merged (onnx), as constants, or to be swapped; an adapter for that last one.",
        ),
    ] = "peft",
    quantise: Annotated[
        Literal["none", "int8", "int4"] | None,
        typer.Option("--quantise", help="Weights of a model for ONNX Runtime.", show_default="as it was trained"),
    ] = None,
    every_site: Annotated[
        bool | None,
        typer.Option(
            "--open/--cut",
            help="Whether a model with swapped adapters takes them on every site, or on those of the winner only.",
            show_default="as latency was predicted",
        ),
    ] = None,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Writes a winner, or an adapter of your own, as files that stock PEFT, transformers or ONNX Runtime load."""
    from adaptare.devices import InputError
    from adaptare.profiler import OnnxBases
    from adaptare.profiler.campaigns.adapter_files import CONFIG

    console = Console(as_json=as_json)
    _check_quantisation(to, quantise)
    if every_site is not None and to != "onnx-swappable":
        raise InputError(f"{'--open' if every_site else '--cut'} is for --to onnx-swappable, not {to}; leave it out")
    source = source.parent if source.name == CONFIG and source.is_file() else source
    of_folder = (source / CONFIG).is_file()
    if of_folder and to == "peft":
        raise InputError(f"{source} is an adapter for PEFT already; choose what it shall become with --to")
    if of_folder and winner is not None:
        raise InputError(f"--winner is for the result of a search, and {source} is one adapter; leave it out")
    if of_folder and not base:
        raise InputError(f"{source} is an adapter without its base model; name that with --base")
    if base and not of_folder:
        raise InputError(f"--base is for a PEFT folder, which {source} is not; the search knows its base")
    won = None if of_folder else _winner_of(source, 1 if winner is None else winner)
    if to in ONNX_KINDS:
        OnnxBases(cache)  # says what is not installed, before anything is loaded
    chosen = _of_search(*won) if won else _of_peft(source, str(base), cache)
    as_trained = chosen.quantisation if to in ("onnx", "onnx-static", "onnx-swappable") else "none"
    weights = quantise or as_trained
    opened = to == "onnx-swappable" and (chosen.every_site if every_site is None else every_site)
    difference = _write(to, chosen, output, quantise=weights, every_site=opened, cache=cache, console=console)
    places = {"folder": output, "model": output / "model.onnx", "adapter": output / "adapter.onnx_adapter"}
    loading = LOADING[to].format(**{name: str(place) for name, place in places.items()})
    console.say(f"written: {output}; load it with: {loading}")
    if opened:
        console.say("It takes adapters on every site; those without one cost a little.")
    if difference is not None:
        console.say(f"Its logits differ by at most {difference:.1e} of the largest from torch's with these weights.")
    written = {"folder": str(output), "kind": to, "quantisation": weights, "base": chosen.base}
    console.result({**written, "open": opened, "sites": dict(chosen.config.ranks), "difference": difference})


def _winner_of(front: Path, winner: int) -> "tuple[AdapterConfig, Path, Path]":
    """Its config, the folder of its super-adapter, and its predictor."""
    from adaptare.devices import InputError
    from adaptare.search.workflows.selection import load_selection

    selection, folder, predictor = load_selection(front)
    if not 1 <= winner <= len(selection.winners):
        raise InputError(f"--winner must be 1 to {len(selection.winners)} in {front}, not {winner}")
    return selection.winners[winner - 1].config, folder, predictor


def _of_search(config: "AdapterConfig", folder: Path, predictor: Path) -> Exported:
    from adaptare.search.workflows.adaptation import reload_adaptation

    adaptation, super_adapter = reload_adaptation(folder)
    task = adaptation.task
    opened = _of_open_graphs(predictor)
    place = (task.model, task.base_name)
    return Exported(super_adapter, config, *place, adaptation.tokenizer, task.quantisation, opened)


def _of_peft(folder: Path, base: str, cache: Path | None) -> Exported:
    from adaptare.profiler import open_model, published_name
    from adaptare.search import import_peft, load_base

    weights = open_model(base, cache=cache).weights_folder().resolve()
    model, tokenizer = load_base(weights)
    super_adapter, config = import_peft(folder, model)
    place = (str(weights), published_name(base, str(weights)))
    return Exported(super_adapter, config, *place, tokenizer, "none", every_site=False)


def _of_open_graphs(predictor: Path) -> bool:
    """Whether latency was predicted where every site is open; an export needs no predictor, so it may be gone."""
    from adaptare.devices import InputError
    from adaptare.predictor import load_predictor

    with contextlib.suppress(InputError):
        return load_predictor(predictor).template.open
    return False


def _check_quantisation(to: Kind, quantise: str | None) -> None:
    from adaptare.devices import InputError

    if quantise in (None, "none"):
        return
    if to == "onnx_adapter":
        raise InputError(f"--quantise {quantise}: an adapter file is the same for every base; leave it out")
    if to in ("peft", "merged"):
        raise InputError(f"--quantise {quantise}: {to} is written in floating point; give --to onnx, or leave it out")


def _write(
    to: Kind,
    chosen: Exported,
    output: Path,
    *,
    quantise: "Quantisation",
    every_site: bool,
    cache: Path | None,
    console: Console,
) -> float | None:
    """Largest difference of the logits that was found, where the export was run."""
    from adaptare.search import export_merged, export_onnx, export_onnx_adapter, export_peft, on_base

    super_adapter, config, base, base_name = chosen.super_adapter, chosen.config, chosen.base, chosen.base_name
    if to == "peft":
        export_peft(super_adapter, config, output, base_name=base_name)
    elif to == "merged":
        # Weights that were rounded for training are not what a model in floating point should have.
        rounded = chosen.quantisation != "none"
        original = on_base(super_adapter, base, "none") if rounded else super_adapter
        export_merged(original, config, output, base_name=base_name, tokenizer=chosen.tokenizer)
    elif to == "onnx_adapter":
        export_onnx_adapter(super_adapter, config, output, base_name=base_name)
    else:
        return export_onnx(
            super_adapter,
            config,
            output,
            kind=to,
            base=base,
            quantisation=quantise,
            every_site=every_site,
            tokenizer=chosen.tokenizer,
            cache=cache,
            note=console.note,
        )
    return None
