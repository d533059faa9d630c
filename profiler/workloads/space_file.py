"""Spaces by name or from a YAML file."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from adaptare.core import InputError
from adaptare.core.extensions import extension, extensions, nearest
from adaptare.core.strict_json import read_bounded
from adaptare.profiler.workloads.configuration import Configuration
from adaptare.profiler.workloads.dimension import Dimension, Kind
from adaptare.profiler.workloads.kinds import RANK, all_kinds
from adaptare.profiler.workloads.shape import ModelShape
from adaptare.profiler.workloads.space import Axis, Space

ATTENTION = ("*.self_attn.*",)
MLP = ("*.mlp.*",)
DEFAULT_RANKS = (0, 2, 4, 8, 16)
# Entry points are called as `space(shape, ranks=…)` and return a `Space`.
SPACES = "adaptare.spaces"
# Maximum nesting in the YAML file of a space; four levels are needed.
DEEPEST = 20
# name -> (one tie group per layer for each of these glob lists, description)
NAMED: Mapping[str, Sequence[Sequence[str]]] = {
    "layers": (("*",),),
    "blocks": (ATTENTION, MLP),
    "kinds": (
        ("*.q*_proj", "*.k_proj", "*.v_proj"),
        ("*.o_proj",),
        ("*.gate*_proj", "*.up_proj"),
        ("*.down_proj",),
    ),
    "sites": (),
}


def rank_space(
    name: str, shape: ModelShape, groups: Sequence[Sequence[str]], choices: Sequence[Sequence[int]]
) -> Space:
    """A space of ranks only.

    Args:
        name: Display name.
        shape: Shape of the base model.
        groups: Module paths of the linears that are tied.
        choices: Ranks of each group, ascending.
    """
    axes = (
        Axis(f"rank of {', '.join(paths)}", tuple(ranks), tuple(map(RANK, paths)))
        for paths, ranks in zip(groups, choices, strict=True)
    )
    return Space(name, shape, tuple(axes))


def named_space(
    name: str, shape: ModelShape, *, ranks: Sequence[int] = DEFAULT_RANKS, layers_alike: bool = False
) -> Space:
    """A space by name: `layers`, `blocks` (attention and MLP), `kinds` (qkv, o, gate and up, down) or `sites`.

    The name is the unit with an independent rank: each layer, each half of each layer, and so on; with `layers_alike`,
    the same half of all layers. Other names are functions of a shape and `ranks` that return a space, registered as
    entry points in the group `adaptare.spaces`; they may add widths and depth.

    Raises:
        InputError: No space has this name, or it cannot make all layers alike.
    """
    if name not in NAMED:
        others = extensions(SPACES)
        if name not in others:
            known = [*NAMED, *sorted(others)]
            raise InputError(
                f"unknown space {name!r}; known are {', '.join(known)}, or a YAML file{nearest(name, known)}"
            )
        if layers_alike:
            raise InputError(f"the space {name!r} may have unequal layers; use one of {', '.join(NAMED)} here")
        made: Space = extension(SPACES, name, kind="space")(shape, ranks=tuple(ranks))
        return made
    globs, tie = NAMED[name], "all" if layers_alike else "layer"
    if not globs:
        kinds = dict.fromkeys(site.kind for site in shape.sites)
        globs, tie = ([[f"*.{kind}"] for kind in kinds], tie) if layers_alike else ([["*"]], "none")
    parts = [{"sites": list(sites), "tie": tie} for sites in globs]
    return grouped_space(name, [{**part, "ranks": list(ranks)} for part in parts], shape)


def read_space(file: str | Path, shape: ModelShape) -> Space:
    """Reads a space from a YAML file.

    Each entry of `groups` has `sites` (globs on module paths), `ranks`, and `tie`: `layer` (one rank per decoder
    layer, the default), `all` (one rank for all its sites) or `none`. A site belongs to the first entry that matches
    it; unmatched sites are not in the space.

    Alternatively it has `widths`, the allowed intermediate sizes of MLPs, and optionally `layers` (a list; default: all
    that are unassigned) and `tie`: `layer` (one width per layer, the default) or `all`. Or it has `depth` alone: the
    allowed numbers of layers. Kinds of dimensions of other packages are named by their key, as `widths` are.

    Raises:
        InputError: The file cannot be read, or has other content.
    """
    try:
        content = _plain_yaml(read_bounded(Path(file)))
    except OSError as error:
        raise InputError(f"space {str(file)!r} cannot be read: {error.strerror}") from error
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(f"space {str(file)!r} is not YAML: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("groups"), list) or not content["groups"]:
        raise InputError(f"space {str(file)!r} needs a list `groups` of entries with `sites` and `ranks`")
    return grouped_space(str(file), content["groups"], shape)


def _plain_yaml(text: str) -> Any:
    """Content of a YAML text.

    Raises:
        yaml.YAMLError: Something expands, an alias or deep nesting, or a key is written twice.
    """
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError(f"it has an alias, *{event.anchor}; write the values out instead")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise yaml.YAMLError(f"it is nested deeper than {DEEPEST} levels")
    return yaml.load(text, Loader=_UniqueKeys)  # noqa: S506, it is a safe loader


class _UniqueKeys(yaml.SafeLoader):
    """Loader that refuses a key that is written twice: one of them would silently win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: list[Any] = []
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.YAMLError(f"the key {key.value!r} is written twice, again in line {key.start_mark.line + 1}")
            seen.append(key.value)
        return super().construct_mapping(node, deep)


def grouped_space(name: str, entries: Sequence[Any], shape: ModelShape) -> Space:
    """A space from the entries that `read_space` reads from a file. Raises `InputError` for other content."""
    axes: list[Axis] = []
    where: list[str] = []
    for number, content in enumerate(entries):
        entry = _Entry(f"space {name!r}, entry {number + 1}", content if isinstance(content, dict) else {}, shape)
        added = entry.axes(taken={each for axis in axes for each in axis.dimensions})
        axes += added
        where += [entry.where] * len(added)
    _check_sizes(axes, where, shape)
    # Dimensions are in the order of the shape: ranks, widths, then the depth.
    return Space(name, shape, tuple(sorted(axes, key=lambda axis: (axis.kind.cuts, axis.kind.presence))))


def _check_sizes(axes: Sequence[Axis], where: Sequence[str], shape: ModelShape) -> None:
    """Raises `InputError` if a value is larger than the base, or does not fit a linear at the smallest widths."""
    smallest = {each: axis.choices[0] for axis in axes if not axis.kind.presence for each in axis.dimensions}
    cut = {each: value for each, value in smallest.items() if each.kind.cuts}
    sites = {site.path: site for site in Configuration.of(others=cut).sites(shape)}
    for axis, entry in zip(axes, where, strict=True):
        for dimension in () if axis.kind.presence else axis.dimensions:
            try:
                dimension.check(axis.choices[-1], shape, sites)
            except InputError as error:
                raise InputError(f"{entry}: {error}") from error


@dataclass(frozen=True)
class _Entry:
    """Entry of a space file: choices of one kind of dimension, and the places that have them."""

    where: str
    content: Mapping[str, Any]
    shape: ModelShape

    def axes(self, *, taken: Container[Dimension]) -> list[Axis]:
        """Axes of the places that are not taken. Raises `InputError` for other content, or if all are taken."""
        named = {kind.entry or kind.key: kind for kind in all_kinds()}
        name, kind = next((each for each in named.items() if each[0] in self.content), (RANK.key, RANK))
        ties = ("layer", "all", "none") if kind.of_linears else ("all",) if kind.presence else ("layer", "all")
        self._check(name, kind)
        choices, tie = self._choices(name, kind), self.content.get("tie", ties[0])
        if tie not in ties:
            raise InputError(f"{self.where}: `tie` must be {', '.join(ties[:-1])} or {ties[-1]}, not {tie!r}")
        dimensions = [each for each in self._dimensions(kind) if each not in taken]
        if not dimensions:
            what = "linear" if kind.of_linears else "layer"
            raise InputError(f"{self.where}: matches no {what}, or only {what}s of earlier entries")
        axes: dict[str, list[Dimension]] = {}
        for each in dimensions:
            place = {"layer": f" in layer {each.layer}", "all": "", "none": f" at {each.place}"}[tie]
            axes.setdefault(self._title(name, kind, dimensions, tie) + place, []).append(each)
        return [Axis(title, choices, tuple(tied)) for title, tied in axes.items()]

    def _check(self, name: str, kind: Kind) -> None:
        """Raises `InputError` if a field is missing or unknown."""
        needed = {name, "sites"} if kind.of_linears else {name}
        optional = {"tie"} if kind.of_linears else set() if kind.presence else {"layers", "tie"}
        if not needed <= set(self.content) <= needed | optional:
            may = f", may have {_listed(optional)}" if optional else ""
            raise InputError(
                f"{self.where}: needs {_listed(needed)}{may}, nothing else; has {dict(self.content)!r:.200}"
            )

    def _choices(self, name: str, kind: Kind) -> tuple[int, ...]:
        numbers, least = self.content[name], max(kind.least, int(kind.presence))
        whole = isinstance(numbers, list) and numbers and all(type(each) is int and each >= least for each in numbers)
        if not whole or len(set(numbers)) != len(numbers):
            raise InputError(f"{self.where}: `{name}` must be different whole numbers >= {least}, not {numbers!r}")
        if max(numbers) == 0:
            raise InputError(f"{self.where}: `{name}` must have one above 0, or there is nothing to adapt")
        if kind.presence and max(numbers) > self.shape.layers:
            raise InputError(
                f"{self.where}: `{name}` must be at most the base's {self.shape.layers}, not {max(numbers)}"
            )
        return tuple(sorted(numbers))

    def _dimensions(self, kind: Kind) -> list[Dimension]:
        """Dimensions that the entry names; of layers to leave out, in an even order."""
        if kind.presence:
            return [kind(layer) for layer in even_order(self.shape.layers)]
        if not kind.of_linears:
            known = range(self.shape.layers)
            layers = self.content.get("layers", list(known))
            if not isinstance(layers, list) or not all(type(layer) is int and layer in known for layer in layers):
                rule = f"must be a list of numbers from 0 to {known[-1]}"
                raise InputError(f"{self.where}: `layers` {rule}, not {layers!r}")
            return [kind(layer) for layer in known if layer in layers]
        return [each for each in kind.all(self.shape) if any(fnmatchcase(each.place, glob) for glob in self._globs())]

    def _globs(self) -> list[str]:
        globs = self.content["sites"]
        globs = [globs] if isinstance(globs, str) else globs
        if not isinstance(globs, list) or not all(isinstance(pattern, str) for pattern in globs):
            raise InputError(f"{self.where}: `sites` must be a glob or a list of globs, not {globs!r}")
        return globs

    def _title(self, name: str, kind: Kind, dimensions: Sequence[Dimension], tie: str) -> str:
        if kind.of_linears:
            return f"{kind.name} of {', '.join(self._globs())}"
        if kind.presence or tie != "all":
            return name if kind.presence else kind.name
        return f"{kind.name} of layers {', '.join(str(each.place) for each in dimensions)}"


def even_order(layers: int) -> tuple[int, ...]:
    """An order that needs no data: layers far from those left out before, later ones first; the two ends at last."""
    inner, order = list(range(1, layers - 1)), list[int]()
    while inner:
        gone = (-1, layers, *order)
        order.append(max(inner, key=lambda layer: (min(abs(layer - other) for other in gone), layer)))
        inner.remove(order[-1])
    return (*order, *dict.fromkeys((layers - 1, 0)))


def _listed(names: set[str]) -> str:
    return " and ".join(f"`{name}`" for name in sorted(names))
