"""Measure what a low-rank adapter costs on its device, predict it, and search the adapters that fit.

`overhead` answers the first question in one call. The library lives in six packages, each importing only those before
it: `adaptare.core`, `adaptare.devices`, `adaptare.profiler`, `adaptare.predictor`, `adaptare.search` and
`adaptare.workflows`.
"""

from typing import TYPE_CHECKING, Final

from adaptare.core.lazy_names import lazy_names

if TYPE_CHECKING:
    from adaptare.devices import connect
    from adaptare.predictor import LatencyPredictor, load_predictor, save_predictor
    from adaptare.profiler import (
        Configuration,
        Space,
        Store,
        Workload,
        design,
        named_space,
        open_model,
        precise_within,
        profile,
        read_peft,
        read_space,
    )
    from adaptare.workflows.overhead.overhead import overhead

VERSION: Final = "0.2.0.dev0"

__version__ = VERSION

# Imported when first used: `adaptare --help` needs none of them.

__all__ = [
    "VERSION",
    "Configuration",
    "LatencyPredictor",
    "Space",
    "Store",
    "Workload",
    "__version__",
    "connect",
    "design",
    "load_predictor",
    "named_space",
    "open_model",
    "overhead",
    "precise_within",
    "profile",
    "read_peft",
    "read_space",
    "save_predictor",
]

__getattr__ = lazy_names(__name__)
