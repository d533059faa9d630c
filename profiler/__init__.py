"""From a workload to a measurement: shapes, adapters, spaces, rounds, statistics and the store."""

from adaptare.profiler.adapter import AdapterConfig, peft_arguments, read_peft
from adaptare.profiler.intervals import Interval, ratio_interval
from adaptare.profiler.measurement import (
    Measurement,
    Visit,
    device_from_json,
    device_to_json,
    measurement_from_json,
    measurement_to_json,
    overhead,
)
from adaptare.profiler.shape import FAMILIES, ModelShape, Site
from adaptare.profiler.space import RECIPES, RankSpace, named_space, read_space
from adaptare.profiler.workload import Workload

__all__ = [
    "FAMILIES",
    "RECIPES",
    "AdapterConfig",
    "Interval",
    "Measurement",
    "ModelShape",
    "RankSpace",
    "Site",
    "Visit",
    "Workload",
    "device_from_json",
    "device_to_json",
    "measurement_from_json",
    "measurement_to_json",
    "named_space",
    "overhead",
    "peft_arguments",
    "ratio_interval",
    "read_peft",
    "read_space",
]
