"""From a workload to a measurement: shapes, adapters, spaces, rounds, statistics and the store."""

from adaptare.profiler.adapter import AdapterConfig, peft_arguments, read_peft
from adaptare.profiler.design import design
from adaptare.profiler.intervals import Interval, ratio_interval
from adaptare.profiler.measurement import (
    INTERRUPTED,
    Measurement,
    Visit,
    device_from_json,
    device_hash,
    device_to_json,
    measurement_from_json,
    measurement_to_json,
    overhead,
)
from adaptare.profiler.model_source import ModelSource, open_model
from adaptare.profiler.rounds import profile, profile_groups
from adaptare.profiler.shape import FAMILIES, ModelShape, Site
from adaptare.profiler.space import RECIPES, RankSpace, named_space, read_space
from adaptare.profiler.stopping import (
    FirstOf,
    FixedRounds,
    NoGain,
    Precise,
    Progress,
    StoppingRule,
    TimeBudget,
    precise_within,
)
from adaptare.profiler.store import DEFAULT_STORE, Store
from adaptare.profiler.verdict import Verdict, verdict
from adaptare.profiler.workload import BYTES, Workload

__all__ = [
    "BYTES",
    "DEFAULT_STORE",
    "FAMILIES",
    "INTERRUPTED",
    "RECIPES",
    "AdapterConfig",
    "FirstOf",
    "FixedRounds",
    "Interval",
    "Measurement",
    "ModelShape",
    "ModelSource",
    "NoGain",
    "Precise",
    "Progress",
    "RankSpace",
    "Site",
    "StoppingRule",
    "Store",
    "TimeBudget",
    "Verdict",
    "Visit",
    "Workload",
    "design",
    "device_from_json",
    "device_hash",
    "device_to_json",
    "measurement_from_json",
    "measurement_to_json",
    "named_space",
    "open_model",
    "overhead",
    "peft_arguments",
    "precise_within",
    "profile",
    "profile_groups",
    "ratio_interval",
    "read_peft",
    "read_space",
    "verdict",
]
