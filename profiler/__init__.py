"""Measurement of workloads: shapes, adapters, spaces, rounds, statistics and the store.

Modules that need onnx or torch are imported on first use.
"""

from typing import TYPE_CHECKING

from adaptare.core.lazy_names import lazy_names
from adaptare.core.quantisation import Quantisation
from adaptare.profiler.measuring.session import profile
from adaptare.profiler.measuring.stopping import FixedRounds, precise_within
from adaptare.profiler.models.model_source import open_model
from adaptare.profiler.programs.builders import Need, Programs, programs_for
from adaptare.profiler.store.measurement import Measurement
from adaptare.profiler.workloads.configuration import Configuration
from adaptare.profiler.workloads.design import design
from adaptare.profiler.workloads.dimension import Kind
from adaptare.profiler.workloads.kinds import RANK, WIDTH
from adaptare.profiler.workloads.part import Part
from adaptare.profiler.workloads.peft_folder import read_peft
from adaptare.profiler.workloads.shape import ModelShape
from adaptare.profiler.workloads.space import Axis, Space
from adaptare.profiler.workloads.space_file import named_space, read_space
from adaptare.profiler.workloads.workload import Mode, Phase, Workload

if TYPE_CHECKING:
    from adaptare.profiler.store.database import Store


__all__ = [
    "RANK",
    "WIDTH",
    "Axis",
    "Configuration",
    "FixedRounds",
    "Kind",
    "Measurement",
    "Mode",
    "ModelShape",
    "Need",
    "Part",
    "Phase",
    "Programs",
    "Quantisation",
    "Space",
    "Store",
    "Workload",
    "design",
    "named_space",
    "open_model",
    "precise_within",
    "profile",
    "programs_for",
    "read_peft",
    "read_space",
]

__getattr__ = lazy_names(__name__)
