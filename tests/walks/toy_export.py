"""Exports of another package: one NumPy file with the update of every weight."""

import numpy as np

from adaptare.core import InputError
from adaptare.search import ExportKind


def write(adapted, folder, options):
    """Writes scale * B A of every site by its path."""
    if not adapted.halves:
        raise InputError("an adapter without any site has no update; choose another configuration")
    np.savez(folder / "updates.npz", **{path: own.scale * own.B @ own.A for path, own in adapted.halves.items()})


ARRAYS = ExportKind(
    "arrays", "updates of weights in a NumPy file", "import numpy; print(numpy.load('updates.npz').files)", write
)
