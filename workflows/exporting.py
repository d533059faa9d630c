"""Export of a winner, or of a PEFT adapter, to files that unmodified PEFT, transformers or ONNX Runtime load."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from transformers import PreTrainedTokenizerBase

from adaptare.core import InputError
from adaptare.core.exit_codes import ExitCode
from adaptare.core.table import Note, Section
from adaptare.predictor import load_predictor
from adaptare.profiler import Configuration, Quantisation, open_model
from adaptare.profiler.models.model_source import published_name
from adaptare.search import SuperAdapter, export_merged, export_onnx, export_peft, load_base
from adaptare.search.export.onnx import export_onnx_adapter
from adaptare.search.export.peft_import import import_peft
from adaptare.search.export.peft_portable import export_peft_portable
from adaptare.search.export.peft_readers import reading_commands
from adaptare.search.super_adapter.quantised_base import on_base
from adaptare.workflows.search.result import load_result
from adaptare.workflows.train.adaptation import reload_adaptation

ExportKind = Literal[
    "peft", "peft-portable", "peft-uniform", "merged", "onnx", "onnx-static", "onnx-swappable", "onnx-adapter"
]
_PEFT: Final = "PeftModel.from_pretrained(base, {folder!r})"
_SESSION: Final = "session = onnxruntime.InferenceSession({model!r})"
_ADAPTER: Final = "adapter = onnxruntime.LoraAdapter(); adapter.Load({adapter!r})"
# Kind -> Python code that loads the export.
LOADING: Final[dict[ExportKind, str]] = {
    "peft": _PEFT,
    "peft-portable": _PEFT,
    "peft-uniform": _PEFT,
    "merged": "AutoModelForCausalLM.from_pretrained({folder!r})",
    "onnx": _SESSION,
    "onnx-static": _SESSION,
    "onnx-swappable": f"{_SESSION}; {_ADAPTER}; options = onnxruntime.RunOptions(); "
    "options.add_active_adapter(adapter); session.run(None, inputs, options)",
    "onnx-adapter": _ADAPTER,
}


@dataclass(frozen=True)
class Exportable:
    """Adapter with its base.

    Args:
        base: Folder of the base model.
        base_name: Published name of the base; `None` if it has none.
        quantisation: Quantisation of the base that the adapter was trained on.
        opened: True if latency was predicted for graphs with every site open (taking an adapter at run time).
        prepared: True if a recipe changed the base, so that the adapter fits no other.
    """

    super_adapter: SuperAdapter
    config: Configuration
    base: str
    base_name: str | None
    tokenizer: PreTrainedTokenizerBase
    quantisation: Quantisation = "none"
    opened: bool = False
    prepared: bool = False


def winner_of(front: Path, winner: int) -> Exportable:
    """Winner of a search, by its number from 1. Raises `InputError`."""
    result = load_result(front)
    folder, predictor = result.folder, result.predictor
    if folder is None:
        raise InputError(f"{str(front)!r} names no folder of a super-adapter; search again")
    if not 1 <= winner <= len(result.winners):
        raise InputError(f"--winner must be 1 to {len(result.winners)} in {front}, not {winner}")
    adaptation, super_adapter = reload_adaptation(folder)
    task, opened = adaptation.task, False
    with contextlib.suppress(InputError):  # an export needs no predictor, so it may be missing
        opened = predictor is not None and load_predictor(predictor).template.graph == "open"
    config = result.winners[winner - 1].configuration
    return Exportable(
        super_adapter,
        config,
        str(adaptation.base),
        adaptation.base_name,
        adaptation.tokenizer,
        task.quantisation,
        opened,
        prepared=adaptation.recipe.prepare is not None,
    )


def adapter_of(folder: Path, base: str, *, cache: Path | None) -> Exportable:
    """Adapter of a PEFT folder on its base model. Raises `InputError`."""
    weights = open_model(base, cache=cache).weights_folder().resolve()
    model, tokenizer = load_base(weights)
    super_adapter, config = import_peft(folder, model)
    return Exportable(super_adapter, config, str(weights), published_name(base, str(weights)), tokenizer)


@dataclass(frozen=True)
class ExportReport:
    """Result of `export_files`.

    Args:
        quantisation: Quantisation of a model's weights.
        opened: True if every site takes an adapter.
        difference: Largest difference of the logits from torch's, over the largest; `None` if no check was run.
    """

    chosen: Exportable
    kind: ExportKind
    folder: Path
    quantisation: Quantisation
    opened: bool
    difference: float | None
    exit_code: ExitCode = ExitCode.DONE

    def sections(self) -> Iterator[Section]:
        """See `Report`."""
        files = {"model": "model.onnx", "adapter": "adapter.onnx_adapter"}
        places = {"folder": str(self.folder), **{name: str(self.folder / file) for name, file in files.items()}}
        yield f"written: {self.folder}; load it with: {LOADING[self.kind].format(**places)}"
        ranks = self.chosen.config.by_path.values()
        for other in reading_commands(self.kind, self.folder, self.chosen.base, max(ranks, default=0)):
            yield f"for {other}"
        if self.kind == "peft-uniform" and (padded := [rank for rank in ranks if rank < max(ranks)]):
            yield Note(
                f"{len(padded)} of {len(ranks)} sites are padded to rank {max(ranks)} and cost what that rank costs; "
                "predicted latencies are of the smaller ranks"
            )
        if self.kind.startswith("peft") and self.chosen.base_name is None:
            yield Note("it names no base, because this one has no hub id; load it beside the base, or give --base-name")
        if self.chosen.prepared and self.kind in ("peft", "peft-portable", "peft-uniform", "onnx-adapter"):
            yield Note(f"it fits the base that its recipe prepared, and no other: {self.chosen.base}")
        if self.opened:
            yield "It takes adapters on every site; those without one cost a little."
        if self.difference is not None:
            largest = f"{self.difference:.1e} of the largest"
            yield f"Its logits differ by at most {largest} from torch's with these weights."

    def to_json(self) -> dict[str, Any]:
        """See `Report`."""
        return {
            "folder": str(self.folder),
            "kind": self.kind,
            "quantisation": self.quantisation,
            "base": self.chosen.base,
            "open": self.opened,
            "sites": dict(self.chosen.config.ranks),
            **({"widths": dict(self.chosen.config.widths)} if self.chosen.config.widths else {}),
            **({"left_out": list(self.chosen.config.left_out)} if self.chosen.config.left_out else {}),
            "difference": self.difference,
        }


def export_files(
    chosen: Exportable,
    kind: ExportKind,
    folder: Path,
    *,
    quantisation: Quantisation | None = None,
    every_site: bool | None = None,
    cache: Path | None = None,
    note: Callable[[str], None],
) -> ExportReport:
    """Writes one kind of files.

    Args:
        kind: See `LOADING`.
        quantisation: Quantisation of a model for ONNX Runtime; default: as the adapter was trained.
        every_site: True for swapped adapters on every site, False on those of this one; default: as predicted.
        note: Called with a message before each long step.
    """
    onnx_model = kind in ("onnx", "onnx-static", "onnx-swappable")
    weights = quantisation or (chosen.quantisation if onnx_model else "none")
    opened = kind == "onnx-swappable" and (chosen.opened if every_site is None else every_site)
    super_adapter, config, name = chosen.super_adapter, chosen.config, chosen.base_name
    difference: float | None = None
    if kind == "peft":
        export_peft(super_adapter, config, folder, base_name=name)
    elif kind == "peft-portable" or kind == "peft-uniform":
        difference = export_peft_portable(super_adapter, config, folder, kind=kind, base_name=name)
    elif kind == "merged":
        # A floating-point model must not have the weights that were rounded for training.
        rounded = chosen.quantisation != "none"
        original = on_base(super_adapter, chosen.base, "none") if rounded else super_adapter
        export_merged(original, config, folder, base_name=name, tokenizer=chosen.tokenizer)
    elif kind == "onnx-adapter":
        export_onnx_adapter(super_adapter, config, folder, base_name=name)
    else:
        difference = export_onnx(
            super_adapter,
            config,
            folder,
            kind=kind,
            base=chosen.base,
            base_name=name,
            quantisation=weights,
            every_site=opened,
            tokenizer=chosen.tokenizer,
            cache=cache,
            note=note,
        )
    return ExportReport(chosen, kind, folder, weights, opened, difference)
