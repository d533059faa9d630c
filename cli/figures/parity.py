"""Parity figure: predicted over measured latency."""

from pathlib import Path

import numpy as np

from adaptare.figures.figure_file import panels
from adaptare.predictor import FittedPredictor


def draw_parity(predictor: FittedPredictor, file: Path, *, title: str) -> None:
    """Draws the held-out prediction of every adapter, with its interval, over its measured latency.

    Raises:
        StorageError: The file cannot be written.
    """
    base_ms = 1e3 * predictor.base_value
    measured, predicted, half_width = (base_ms * ratios for ratios in predictor.left_out)
    ends = [min(measured.min(), predicted.min()), max(measured.max(), predicted.max())]
    with panels(file, 1, title=title) as [axis]:
        finite = np.where(np.isfinite(half_width), half_width, 0.0)
        axis.errorbar(measured, predicted, finite, fmt="o", markersize=4, capsize=2, linewidth=0.8)
        axis.plot(ends, ends, color="grey", linewidth=0.8)
        axis.axvline(base_ms, color="grey", linewidth=0.8, linestyle=":")
        axis.set(xlabel="measured, ms (dotted: the base)", ylabel="predicted, held out, ms")
