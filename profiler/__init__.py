"""From a workload to a measurement: shapes, adapters, spaces, rounds, statistics and the store.

What needs onnx or torch is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING

from adaptare.devices import MissingPackageError
from adaptare.profiler.adapter import peft_arguments
from adaptare.profiler.alarms import changes, stable_rounds
from adaptare.profiler.attribution import Attribution, OperatorCost, attribute
from adaptare.profiler.calibration import CALIBRATION_HOLDS, calibrated
from adaptare.profiler.configuration import AdapterKind, Configuration
from adaptare.profiler.design import design
from adaptare.profiler.energy import EnergyUse, counts_energy, measure_energy
from adaptare.profiler.groups import split_into_groups
from adaptare.profiler.intervals import Interval, ratio_interval
from adaptare.profiler.measurement import (
    INTERRUPTED,
    Measurement,
    Origin,
    Visit,
    device_from_json,
    device_hash,
    device_to_json,
    measurement_from_json,
    measurement_to_json,
    overhead,
)
from adaptare.profiler.model_source import ModelSource, open_model, published_name
from adaptare.profiler.parts import Parts, measure_parts
from adaptare.profiler.peft_folder import read_peft
from adaptare.profiler.pooling import pooled
from adaptare.profiler.programs import Need, Programs, memory_bytes, programs_for
from adaptare.profiler.rounds import profile, profile_groups
from adaptare.profiler.shape import FAMILIES, Column, MlpWidth, ModelShape, Site
from adaptare.profiler.space import RECIPES, Dimension, Space, named_space, rank_space, read_space
from adaptare.profiler.stopping import (
    FixedRounds,
    PreciseWithin,
    Progress,
    StoppingRule,
    precise_within,
)
from adaptare.profiler.stubs import StubPrograms, fitting_layers, profile_by_stubs, stub_layers, stub_of, stubs_of
from adaptare.profiler.verdict import EQUIVALENCE_BAND, Verdict, verdict
from adaptare.profiler.warmup import Steadiness, Trend, steadiness
from adaptare.profiler.workload import BYTES, Caches, Graph, Mode, Phase, Quantisation, Scope, Workload

if TYPE_CHECKING:
    from adaptare.profiler.onnx_adapted import (
        write_onnx_merged,
        write_onnx_requantised,
        write_onnx_static,
        write_onnx_swappable,
    )
    from adaptare.profiler.onnx_adapter_file import write_onnx_adapter
    from adaptare.profiler.onnx_base import OnnxBase, adapter_inputs
    from adaptare.profiler.onnx_bases import OnnxBases
    from adaptare.profiler.onnx_quantise import rounded_weights
    from adaptare.profiler.store import Store

_LATER = {
    "Store": "store",
    "write_onnx_merged": "onnx_adapted",
    "write_onnx_requantised": "onnx_adapted",
    "write_onnx_static": "onnx_adapted",
    "write_onnx_swappable": "onnx_adapted",
    "write_onnx_adapter": "onnx_adapter_file",
    "OnnxBase": "onnx_base",
    "adapter_inputs": "onnx_base",
    "OnnxBases": "onnx_bases",
    "rounded_weights": "onnx_quantise",
}

__all__ = [
    "BYTES",
    "CALIBRATION_HOLDS",
    "EQUIVALENCE_BAND",
    "FAMILIES",
    "INTERRUPTED",
    "RECIPES",
    "AdapterKind",
    "Attribution",
    "Caches",
    "Column",
    "Configuration",
    "Dimension",
    "EnergyUse",
    "FixedRounds",
    "Graph",
    "Interval",
    "Measurement",
    "MlpWidth",
    "Mode",
    "ModelShape",
    "ModelSource",
    "Need",
    "OnnxBase",
    "OnnxBases",
    "OperatorCost",
    "Origin",
    "Parts",
    "Phase",
    "PreciseWithin",
    "Programs",
    "Progress",
    "Quantisation",
    "Scope",
    "Site",
    "Space",
    "Steadiness",
    "StoppingRule",
    "Store",
    "StubPrograms",
    "Trend",
    "Verdict",
    "Visit",
    "Workload",
    "adapter_inputs",
    "attribute",
    "calibrated",
    "changes",
    "counts_energy",
    "design",
    "device_from_json",
    "device_hash",
    "device_to_json",
    "fitting_layers",
    "measure_energy",
    "measure_parts",
    "measurement_from_json",
    "measurement_to_json",
    "memory_bytes",
    "named_space",
    "open_model",
    "overhead",
    "peft_arguments",
    "pooled",
    "precise_within",
    "profile",
    "profile_by_stubs",
    "profile_groups",
    "programs_for",
    "published_name",
    "rank_space",
    "ratio_interval",
    "read_peft",
    "read_space",
    "rounded_weights",
    "split_into_groups",
    "stable_rounds",
    "steadiness",
    "stub_layers",
    "stub_of",
    "stubs_of",
    "verdict",
    "write_onnx_adapter",
    "write_onnx_merged",
    "write_onnx_requantised",
    "write_onnx_static",
    "write_onnx_swappable",
]


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{__name__}.{_LATER[name]}")
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"{error.name} is not installed; install it with: pip install 'adaptare[onnx]'"
        ) from error
    return getattr(module, name)
