"""Measurement of workloads: shapes, adapters, spaces, rounds, statistics and the store.

Modules that need onnx or torch are imported on first use.
"""

from typing import TYPE_CHECKING

from adaptare.devices.lazy_names import lazy_names
from adaptare.profiler.analysis.alarms import changes, stable_rounds
from adaptare.profiler.analysis.intervals import Interval, ratio_interval
from adaptare.profiler.analysis.verdict import EQUIVALENCE_BAND, Verdict, verdict
from adaptare.profiler.analysis.warmup import Steadiness, Trend, steadiness
from adaptare.profiler.measuring.attribution import Attribution, OperatorCost, attribute
from adaptare.profiler.measuring.calibration import CALIBRATION_HOLDS, calibrated
from adaptare.profiler.measuring.energy import EnergyUse, counts_energy, measure_energy
from adaptare.profiler.measuring.groups import split_into_groups
from adaptare.profiler.measuring.parts import Parts, measure_parts
from adaptare.profiler.measuring.rounds import profile, profile_groups
from adaptare.profiler.measuring.stopping import (
    FixedRounds,
    PreciseWithin,
    Progress,
    StoppingRule,
    precise_within,
)
from adaptare.profiler.measuring.stubs import (
    StubPrograms,
    fitting_layers,
    profile_by_stubs,
    stub_layers,
    stub_of,
    stubs_of,
)
from adaptare.profiler.models.model_source import ModelSource, open_model, published_name
from adaptare.profiler.programs.builders import Need, Programs, memory_bytes, programs_for
from adaptare.profiler.store.measurement import (
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
from adaptare.profiler.store.pooling import pooled
from adaptare.profiler.workloads.adapter import peft_arguments
from adaptare.profiler.workloads.configuration import AdapterKind, Configuration
from adaptare.profiler.workloads.design import design
from adaptare.profiler.workloads.peft_folder import read_peft
from adaptare.profiler.workloads.shape import FAMILIES, Column, MlpWidth, ModelShape, Site
from adaptare.profiler.workloads.space import RECIPES, Dimension, Space, named_space, rank_space, read_space
from adaptare.profiler.workloads.workload import BYTES, Caches, Graph, Mode, Phase, Quantisation, Scope, Workload

if TYPE_CHECKING:
    from adaptare.profiler.programs.onnx.adapted import (
        write_onnx_merged,
        write_onnx_requantised,
        write_onnx_static,
        write_onnx_swappable,
    )
    from adaptare.profiler.programs.onnx.adapter_file import write_onnx_adapter
    from adaptare.profiler.programs.onnx.base import OnnxBase, adapter_inputs
    from adaptare.profiler.programs.onnx.bases import OnnxBases
    from adaptare.profiler.programs.onnx.quantise import rounded_weights
    from adaptare.profiler.store.database import Store

_LATER = {
    "Store": "store.database",
    "write_onnx_merged": "programs.onnx.adapted",
    "write_onnx_requantised": "programs.onnx.adapted",
    "write_onnx_static": "programs.onnx.adapted",
    "write_onnx_swappable": "programs.onnx.adapted",
    "write_onnx_adapter": "programs.onnx.adapter_file",
    "OnnxBase": "programs.onnx.base",
    "adapter_inputs": "programs.onnx.base",
    "OnnxBases": "programs.onnx.bases",
    "rounded_weights": "programs.onnx.quantise",
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

__getattr__ = lazy_names(__name__, _LATER)
