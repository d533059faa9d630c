"""Kinds of dimensions by the name of their values: those of adaptare, and those that installed packages register."""

from collections.abc import Mapping

from adaptare.core.extensions import extension, extensions
from adaptare.profiler.workloads.depth import LAYER
from adaptare.profiler.workloads.dimension import Kind
from adaptare.profiler.workloads.rank import RANK
from adaptare.profiler.workloads.width import WIDTH

DIMENSIONS = "adaptare.dimensions"
OWN: Mapping[str, Kind] = {kind.key: kind for kind in (RANK, WIDTH, LAYER)}


def kind_named(key: str) -> Kind:
    """The kind of dimension with this key. Raises `InputError` if no installed package registers it."""
    if key in OWN:
        return OWN[key]
    kind: Kind = extension(DIMENSIONS, key, kind="kind of dimension")
    return kind


def all_kinds() -> list[Kind]:
    """Every kind of dimension."""
    return [*OWN.values(), *(kind_named(key) for key in sorted(extensions(DIMENSIONS)))]
