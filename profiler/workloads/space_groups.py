"""Entries of a space file: columns of a space, and their allowed values."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from adaptare.core import InputError
from adaptare.profiler.workloads.shape import Column, MlpWidth, ModelShape, Site


@dataclass(frozen=True)
class Group:
    """An entry of a space file: choices, and columns that are tied if their keys are equal."""

    where: str
    choices: tuple[int, ...]
    columns: Sequence[Column]
    title: str
    tie: str

    def dimensions(self) -> list[tuple[str, Sequence[Column]]]:
        """Name and columns of each dimension."""
        tied: dict[int | str, list[Column]] = {}
        for column in self.columns:
            key = {"layer": getattr(column, "layer", 0), "all": "", "none": getattr(column, "path", "")}[self.tie]
            tied.setdefault(key, []).append(column)
        place = {"layer": " in layer {}", "all": "", "none": " at {}"}[self.tie]
        return [(self.title + place.format(key), columns) for key, columns in tied.items()]


def read_groups(name: str, entries: Sequence[Any], shape: ModelShape) -> list[Group]:
    """Groups of a space; see `read_space` for the entries.

    Raises:
        InputError: An entry has other content, or names nothing that is still free.
    """
    groups: list[Group] = []
    for number, entry in enumerate(entries):
        where = f"space {name!r}, entry {number + 1}"
        taken = {column for group in groups for column in group.columns}
        keys = entry if isinstance(entry, dict) else {}
        read = _widths if "widths" in keys else _depth if "depth" in keys else _ranks
        groups.append(read(where, entry, shape, taken))
    _check_ranks(groups, shape)
    return groups


def _check_ranks(groups: Sequence[Group], shape: ModelShape) -> None:
    """Raises `InputError` if a rank does not fit a linear at the smallest width of its layer."""
    widths = {
        column.layer: group.choices[0] for group in groups for column in group.columns if isinstance(column, MlpWidth)
    }
    narrowest = {site.path: site.largest_rank for site in shape.sites_with(widths)}
    for group in groups:
        largest = min((narrowest[column.path] for column in group.columns if isinstance(column, Site)), default=None)
        if largest is not None and group.choices[-1] > largest:
            raise InputError(f"{group.where}: rank {group.choices[-1]} is larger than a layer ({largest})")


def _ranks(where: str, entry: Any, shape: ModelShape, taken: Container[Column]) -> Group:
    if not isinstance(entry, dict) or not {"sites", "ranks"} <= set(entry) <= {"sites", "ranks", "tie"}:
        raise InputError(f"{where}: needs `sites` and `ranks`, may have `tie`; has {entry!r}")
    globs = [entry["sites"]] if isinstance(entry["sites"], str) else entry["sites"]
    if not isinstance(globs, list) or not all(isinstance(pattern, str) for pattern in globs):
        raise InputError(f"{where}: `sites` must be a glob or a list of globs, not {entry['sites']!r}")
    ranks = _choices(where, "ranks", entry["ranks"], least=0)
    if ranks[-1] == 0:
        raise InputError(f"{where}: `ranks` must have one above 0, or there is nothing to adapt")
    tie = entry.get("tie", "layer")
    if tie not in ("layer", "all", "none"):
        raise InputError(f"{where}: `tie` must be layer, all or none, not {tie!r}")
    members = [
        site for site in shape.sites if site not in taken and any(fnmatchcase(site.path, pattern) for pattern in globs)
    ]
    if not members:
        raise InputError(f"{where}: {globs} names no linear that is still free")
    return Group(where, ranks, members, f"rank of {', '.join(globs)}", tie)


def _widths(where: str, entry: Mapping[str, Any], shape: ModelShape, taken: Container[Column]) -> Group:
    if not set(entry) <= {"widths", "layers", "tie"}:
        raise InputError(f"{where}: has `widths`, may have `layers` and `tie`, and nothing else; has {entry!r}")
    widths = _choices(where, "widths", entry["widths"], least=1)
    if widths[-1] > shape.intermediate:
        raise InputError(
            f"{where}: width {widths[-1]} is larger than that of the base model ({shape.intermediate}); use 1 to "
            f"{shape.intermediate}"
        )
    tie = entry.get("tie", "layer")
    if tie not in ("layer", "all"):
        raise InputError(f"{where}: `tie` of widths must be layer or all, not {tie!r}")
    layers = entry.get("layers", list(range(shape.layers)))
    if not isinstance(layers, list) or not all(type(layer) is int and 0 <= layer < shape.layers for layer in layers):
        raise InputError(f"{where}: `layers` must be a list of numbers from 0 to {shape.layers - 1}, not {layers!r}")
    members = [width for width in shape.mlp_widths if width.layer in layers and width not in taken]
    if not members:
        raise InputError(f"{where}: {layers} names no layer whose width is still free")
    numbers = ", ".join(str(width.layer) for width in members)
    return Group(where, widths, members, "width" if tie == "layer" else f"width of layers {numbers}", tie)


def _depth(where: str, entry: Mapping[str, Any], shape: ModelShape, taken: Container[Column]) -> Group:
    if set(entry) != {"depth"}:
        raise InputError(f"{where}: has `depth` and nothing else; has {entry!r}")
    depths = _choices(where, "depth", entry["depth"], least=1)
    if depths[-1] > shape.layers:
        raise InputError(f"{where}: the base model has {shape.layers} layers; a depth is 1 to that, not {depths[-1]}")
    if shape.depth in taken:
        raise InputError(f"{where}: an entry before has the depth already")
    return Group(where, depths, [shape.depth], "depth", "all")


def _choices(where: str, name: str, numbers: Any, *, least: int) -> tuple[int, ...]:
    whole = isinstance(numbers, list) and numbers and all(type(number) is int and number >= least for number in numbers)
    if not whole or len(set(numbers)) != len(numbers):
        raise InputError(f"{where}: `{name}` must be different whole numbers >= {least}, not {numbers!r}")
    return tuple(sorted(numbers))
