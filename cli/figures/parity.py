"""Parity figure: predicted over measured values."""

from pathlib import Path

import numpy as np

from adaptare.figures.figure_file import panels
from adaptare.workflows.fit.fitting import FitResult


def draw_parity(result: FitResult, file: Path) -> None:
    """Draws the held-out prediction of every adapter, with its interval, over its measured value.

    Raises:
        StorageError: The file cannot be written.
    """
    factor, unit = (1e3, "ms") if result.unit == "s" else (1.0, result.unit)
    measured = factor * np.array([row.measured for row in result.held_out])
    predicted = factor * np.array([row.predicted.middle for row in result.held_out])
    half_width = factor * np.array([row.predicted.upper for row in result.held_out]) - predicted
    ends = [min(measured.min(), predicted.min()), max(measured.max(), predicted.max())]
    with panels(file, 1, title=f"{result.workload} on {result.device.device}") as [axis]:
        finite = np.where(np.isfinite(half_width), half_width, 0.0)
        axis.errorbar(measured, predicted, finite, fmt="o", markersize=4, capsize=2, linewidth=0.8)
        axis.plot(ends, ends, color="grey", linewidth=0.8)
        axis.axvline(factor * result.base, color="grey", linewidth=0.8, linestyle=":")
        axis.set(xlabel=f"measured, {unit} (dotted: the base)", ylabel=f"predicted, held out, {unit}")
