"""Model cards of exports: what the files hold, how far their logits are from torch's, and Python that loads them."""

import importlib.metadata
from typing import TYPE_CHECKING

from adaptare.core.quantisation import QUANTISATIONS
from adaptare.profiler.models import dequantised_file
from adaptare.profiler.workloads import SubAdapter
from adaptare.search.export.kinds import ExportKind, ExportOptions

if TYPE_CHECKING:
    from adaptare.search.super_adapter import Base

CARD = "README.md"
PLACE = "BASE"


def card(
    kind: ExportKind, adapted: SubAdapter["Base"], options: ExportOptions, *, difference: float | None = None
) -> str:
    """Markdown with the metadata of a model card.

    Args:
        kind: Kind of the export.
        adapted: Adapter and its base.
        options: Options of the export.
        difference: Largest difference of the logits from torch's, relative to the largest; `None` if not compared.
    """
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
