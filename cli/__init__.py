"""Measure what a low-rank adapter costs on its device, predict it, and search the adapters that fit.

The library lives in four packages, each importing only those before it: `adaptare.devices`,
`adaptare.profiler`, `adaptare.predictor`, `adaptare.search`.
"""

from typing import Final

VERSION: Final = "0.2.0.dev0"

__version__ = VERSION

__all__ = ["VERSION", "__version__"]
