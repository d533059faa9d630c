"""Parity check of an exported model, run in a process with ONNX Runtime alone, against torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from adaptare.core import DeviceError
from adaptare.profiler import Configuration, Quantisation
from adaptare.search.export.parity import TOKENS, computed_elsewhere, random_tokens
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.super_adapter.quantised_base import on_base, requantised

OnnxKind = Literal["onnx", "onnx-static", "onnx-swappable"]
MODEL_FILE, ADAPTER_FILE = "model.onnx", "adapter.onnx_adapter"
# Of logits, relative to the largest. Kernels for quantised weights also round activations, unlike torch.
TOLERANCES: Mapping[Quantisation, float] = {"none": 1e-3, "int8": 0.1, "int4": 0.1}

# Runs without adaptare: only with packages that any user of ONNX Runtime has.
_LOADER = """
import json, sys
import numpy, onnxruntime

request = json.load(sys.stdin)
options = onnxruntime.SessionOptions()
options.log_severity_level = 3
session = onnxruntime.InferenceSession(request["model"], options, providers=["CPUExecutionProvider"])
past = {port.name: port.shape for port in session.get_inputs() if port.name != "input_ids"}
logits = []
for file in request["adapters"]:
    run_options = onnxruntime.RunOptions()
    if file:
        adapter = onnxruntime.LoraAdapter()
        adapter.Load(file)
        run_options.add_active_adapter(adapter)
    cache = {name: numpy.zeros((1, heads, 0, width), numpy.float32) for name, (_, heads, _, width) in past.items()}
    for tokens in request["steps"]:
        found, *present = session.run(None, {"input_ids": numpy.array([tokens]), **cache}, run_options)
        cache = dict(zip(cache, present, strict=True))
        logits.append(found.ravel().tolist())
print(json.dumps(logits))
"""


def check_onnx_export(
    super_adapter: SuperAdapter,
    config: Configuration,
    folder: Path,
    *,
    kind: OnnxKind,
    base: Path,
    quantisation: Quantisation,
) -> float:
    """Largest absolute difference of the logits from torch's, over the largest of torch's if that is above 1.

    Compares a prefill and a decode step with its cache; for a swappable export with the adapter and without. Torch
    computes with the weights of the base's folder, dequantised if they are quantised. It does not round activations,
    as quantised kernels do.

    Args:
        super_adapter: The exported super-adapter.
        config: The exported ranks and widths.
        folder: Holds `model.onnx`, and the adapter's file if swappable.
        kind: Kind of the export, see `export_onnx`.
        base: Folder of the base model.
        quantisation: Quantisation of the export.

    Raises:
        DeviceError: The difference is too large, or ONNX Runtime did not run the model.
    """
    tokens = random_tokens(super_adapter, TOKENS + 1).tolist()
    swappable = kind == "onnx-swappable"
    request = {
        "model": str(folder / MODEL_FILE),
        "adapters": [str(folder / ADAPTER_FILE), ""] if swappable else [""],
        "steps": [tokens[:-1], tokens[-1:]],
    }
    # Logits of the last token, for every adapter and step.
    ours = np.array(computed_elsewhere(_LOADER, request, library="ONNX Runtime"))
    if kind == "onnx" and quantisation != "none" and not (super_adapter.on_grid and quantisation == "int4"):
        reference, applied = requantised(super_adapter, config, base, quantisation), [config.without_adapter]
    else:
        reference = on_base(super_adapter, base, quantisation)
        applied = [config, config.without_adapter] if swappable else [config]
    theirs = np.stack([row for active in applied for row in _logits(reference, active, tokens)])
    difference = float(np.max(np.abs(ours - theirs)) / max(1.0, np.max(np.abs(theirs))))
    if not difference <= TOLERANCES[quantisation]:
        advice = "another version of onnxruntime" if quantisation == "none" else "an export that is not quantised"
        raise DeviceError(
            f"logits of the {kind} export with {quantisation} quantisation differ from torch's by {difference:.2g} of "
            f"the largest, and {TOLERANCES[quantisation]:g} is allowed; try {advice}"
        )
    return difference


def _logits(reference: SuperAdapter, config: Configuration, tokens: Sequence[int]) -> NDArray[np.float32]:
    """Logits of the last two tokens: those of a prefill up to the last but one, and of a decode step after it."""
    with reference.activated(config), torch.inference_mode():
        logits: NDArray[np.float32] = reference.model(torch.tensor([tokens]), logits_to_keep=2).logits[0].numpy()
    return logits
