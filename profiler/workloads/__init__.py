"""The units of timing: model shapes, dimensions, adapters, and workloads."""

from adaptare.profiler.workloads.configuration import AdapterKind
from adaptare.profiler.workloads.dimension import Dimension
from adaptare.profiler.workloads.kinds import LAYER, all_kinds, kind_named
from adaptare.profiler.workloads.part import WHOLE
from adaptare.profiler.workloads.peft_folder import CONFIG, WEIGHTS, by_pattern, peft_arguments, peft_settings
from adaptare.profiler.workloads.shape import Site, layer_of, with_kept_layers
from adaptare.profiler.workloads.space_file import DEFAULT_RANKS, NAMED, grouped_space, rank_space
from adaptare.profiler.workloads.sub_adapter import Halves, SubAdapter
from adaptare.profiler.workloads.work import linears_of
from adaptare.profiler.workloads.workload import BYTES, IN_WEIGHTS, Caches, Graph

__all__ = ["BYTES", "IN_WEIGHTS", "LAYER", "Caches", "Dimension", "Graph", "Site", "all_kinds", "kind_named"]
__all__ += ["DEFAULT_RANKS", "NAMED", "grouped_space", "layer_of", "linears_of", "rank_space", "with_kept_layers"]
__all__ += ["CONFIG", "WEIGHTS", "WHOLE", "AdapterKind", "Halves", "SubAdapter", "by_pattern"]
__all__ += ["peft_arguments", "peft_settings"]
