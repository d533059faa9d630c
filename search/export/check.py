"""Checks of exports: logits of the written files, computed by their readers, against those of torch."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from adaptare.core import DeviceError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOKENS: Final = 25
# Of logits, relative to the largest; for exports without rounding.
TOLERANCE: Final = 1e-4
# Loads the export in a folder as its users do, and returns the logits of the last n >= 1 tokens, shape (n, vocabulary).
Reader = Callable[[Path, Sequence[int]], NDArray[np.float32]]


@dataclass(frozen=True)
class Expectation:
    """A reader of an export, and the model that its logits must equal.

    Args:
        name: ExportReader or program whose reading it is, for messages.
        reader: Opens the export.
        model: Computes the expected logits.
        tolerance: Largest difference over the largest logit.
    """

    name: str
    reader: Reader
    model: "PreTrainedModel"
    tolerance: float = TOLERANCE


def check(
    folder: Path,
    expectations: Sequence[Expectation],
    *,
    export: str = "the export",
    advice: str,
    begun: Callable[[int], None] = lambda number: None,
) -> float:
    """Largest difference from the expected logits, relative to the largest expected logit if that exceeds 1.

    Args:
        folder: The export.
        expectations: At least one.
        export: Words for the export, for the message.
        advice: What to do if a difference is too large.
        begun: Called with the number of each expectation, from 0, before it is compared.

    Raises:
        DeviceError: A difference is too large, or a reader could not open the export.
    """
    differences = []
    for number, each in enumerate(expectations):
        begun(number)
        tokens = np.random.default_rng(0).integers(0, each.model.config.vocab_size, TOKENS).tolist()
        found = each.reader(folder, tokens)
        expected = logits_of(each.model, tokens)[-len(found) :]
        differences.append(float(np.max(np.abs(found - expected)) / max(1.0, np.max(np.abs(expected)))))
        if not differences[-1] <= each.tolerance:
            raise DeviceError(
                f"logits of {export}, as {each.name} reads it, differ from torch's by {differences[-1]:.2g} of "
                f"the largest, and {each.tolerance:g} is allowed; {advice}"
            )
    return max(differences)


def logits_of(model: "PreTrainedModel", tokens: Sequence[int]) -> NDArray[np.float32]:
    """Logits of every token. Shape (n, vocabulary)."""
    import torch

    with torch.inference_mode():
        logits: NDArray[np.float32] = model(torch.tensor([tokens]).to(model.device)).logits[0].float().cpu().numpy()
    return logits


@dataclass(frozen=True)
class ExportReader:
    """Library that reads a model, and an adapter in a file of its own, in a separate process.

    Args:
        name: Name for messages.
        script: Reads `model`, `adapter` (empty for none), `tokens` and `rounded` from standard input, and prints the
            logits of the last n >= 1 tokens, both as JSON.
        file: File of a folder that is the model; empty if the folder is.
    """

    name: str
    script: str
    file: str = ""

    def __call__(
        self, model: Path, tokens: Sequence[int], *, adapter: str = "", rounded: bool = True
    ) -> NDArray[np.float32]:
        """Logits of the last tokens. Shape (n, vocabulary).

        Args:
            model: Folder of the model, or its file.
            tokens: All tokens.
            adapter: File of the adapter, or its name in the folder of the model; none if empty.
            rounded: False to compute quantised products in floating point, where the library can.

        Raises:
            DeviceError: A file cannot be loaded, or the library ended the process.
        """
        place = str(model / adapter) if adapter else ""
        request = {"model": str(model / self.file), "adapter": place, "tokens": list(tokens), "rounded": rounded}
        return np.array(computed_elsewhere(self.script, request, library=self.name), dtype=np.float32)


def computed_elsewhere(script: str, request: Mapping[str, Any], *, library: str) -> Any:
    """Result of a Python script in a separate process, which has `library` and need not have adaptare.

    Args:
        script: Reads the request from standard input and prints its result, both as JSON.
        request: JSON values.
        library: Name of the library that reads the export, for messages.

    Raises:
        DeviceError: The script failed.
    """
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        input=json.dumps(request),
        env={**os.environ, "ORT_DISABLE_TELEMETRY": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode} without a message"]
        raise DeviceError(f"{library} could not run the export: {lines[-1]}; try another version of {library}")
    return json.loads(done.stdout.splitlines()[-1])
