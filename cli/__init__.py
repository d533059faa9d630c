"""Measures and predicts the cost of low-rank adapters on a device, and searches for adapters within a budget.

The library consists of four packages, each importing only those before it: `adaptare.devices`,
`adaptare.profiler`, `adaptare.predictor`, `adaptare.search`.
"""

from typing import Final

VERSION: Final = "0.2.0.dev0"

__version__ = VERSION

__all__ = ["VERSION", "__version__"]
