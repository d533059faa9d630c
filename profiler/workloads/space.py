"""Spaces of configurations, encoded as integers: the codes used by searches and predictors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.core.extensions import extension, extensions
from adaptare.profiler.workloads.configuration import Configuration
from adaptare.profiler.workloads.depth import Depth
from adaptare.profiler.workloads.shape import Column, MlpWidth, ModelShape, Site
from adaptare.profiler.workloads.space_groups import read_groups

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


@dataclass(frozen=True)
class Dimension:
    """One axis of a space: a number shared by its columns.

    Args:
        name: Display name, such as `rank of layer 3 mlp` or `width of all layers`.
        choices: Allowed values, ascending: ranks, of which 0 is no adapter, intermediate sizes, or numbers of layers.
        columns: Indices of the code columns that it sets: sites, widths of layers, or the depth.
    """

    name: str = field(compare=False)
    choices: tuple[int, ...]
    columns: tuple[int, ...]


@dataclass(frozen=True)
class Space:
    """Configurations of a base model: ranks of sites and widths of layers, some of them tied to one value, and depth.

    Codes are ranks, widths and the depth: shape (n, n_columns). Genes are choices: shape (n, n_dimensions), each the
    index of a choice of its dimension; `expand` turns genes into codes.

    Args:
        name: Name or file of the space.
        columns: Meaning of the code columns: sites in the order of the shape, then widths by layer, then the depth.
        dimensions: Axes; each column belongs to exactly one.
    """

    name: str
    columns: tuple[Column, ...]
    dimensions: tuple[Dimension, ...]

    @property
    def n_columns(self) -> int:
        """Number of code columns."""
        return len(self.columns)

    @property
    def n_dimensions(self) -> int:
        """Number of gene columns."""
        return len(self.dimensions)

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        """Columns that are ranks."""
        return tuple(column for column in self.columns if isinstance(column, Site))

    @property
    def has_widths(self) -> bool:
        """True if the space includes the width of some layer."""
        return any(isinstance(column, MlpWidth) for column in self.columns)

    @cached_property
    def depth(self) -> Depth | None:
        """The column that is the number of layers, with the order in which they are left out."""
        return next((column for column in self.columns if isinstance(column, Depth)), None)

    @property
    def cuts_base(self) -> bool:
        """True if the space includes widths or depth, so that a configuration may be faster than the base."""
        return len(self.sites) < len(self.columns)

    def leaving_out(self, order: Sequence[int]) -> "Space":
        """The space with another order in which layers are left out. Raises `InputError` if it is of other layers."""
        if self.depth and len(order) != self.depth.largest:
            raise InputError(f"the base model has {self.depth.largest} layers, and the order {len(order)}")
        columns = (Depth(tuple(order)) if isinstance(column, Depth) else column for column in self.columns)
        return replace(self, columns=tuple(columns))

    @cached_property
    def n_choices(self) -> NDArray[np.int64]:
        """Number of choices of each dimension. Shape (n_dimensions,)."""
        return np.array([len(dimension.choices) for dimension in self.dimensions], dtype=np.int64)

    @cached_property
    def base(self) -> NDArray[np.int64]:
        """Codes of the base model: no adapter, original widths and depth. Shape (n_columns,)."""
        return np.array(Configuration().codes(self.columns), dtype=np.int64)

    def changes_base(self, codes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """True for configurations with an adapter, or with narrower or fewer layers. Shape (n, n_columns) -> (n,)."""
        changed: NDArray[np.bool_] = (codes != self.base).any(axis=1)
        return changed

    def has_adapter(self, codes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """True for configurations with a rank above 0 on some site. Shape (n, n_columns) -> (n,)."""
        ranked = np.array([isinstance(column, Site) for column in self.columns], dtype=np.bool_)
        adapted: NDArray[np.bool_] = np.any(codes[:, ranked] > 0, axis=1)
        return adapted

    @property
    def at_largest_ranks(self) -> "Space":
        """The space without ranks to choose: they cost nothing where adapters are merged into the weights."""
        dimensions = (
            replace(each, choices=each.choices[-1:]) if isinstance(self.columns[each.columns[0]], Site) else each
            for each in self.dimensions
        )
        return replace(self, dimensions=tuple(dimensions))

    def checked_genes(self, genes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Start genes that are of this space. Shape (n, n_dimensions). Raises `InputError` if they are not."""
        given = np.asarray(genes, dtype=np.int64)
        if given.ndim != 2 or given.shape[1] != self.n_dimensions:
            raise InputError(f"start must be of shape (n, {self.n_dimensions}), not {given.shape}")
        if np.any((given < 0) | (given >= self.n_choices)):
            raise InputError(f"start must hold choices from 0 to below {self.n_choices.tolist()}, not {given.tolist()}")
        return given

    def expand(self, genes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Converts genes to codes. Shape (n, n_dimensions) -> (n, n_columns).

        Layers that are left out have no adapter, and the width of the base.
        """
        codes = self._values[np.arange(self.n_dimensions), genes][:, self._dimension_of_column]
        if self.depth is None:
            return codes
        gone = self._gone[codes[:, self.columns.index(self.depth)]]
        return np.where(gone, self.base, codes)

    def decode(self, codes: NDArray[np.int64] | Sequence[int]) -> Configuration:
        """The configuration of one row of codes, shape (n_columns,)."""
        return Configuration.of_codes(self.columns, [int(code) for code in codes])

    def encode(self, configuration: Configuration) -> NDArray[np.int64]:
        """Codes of a configuration, shape (n_columns,). Values need not be among the choices.

        Raises:
            InputError: The configuration has an adapter or a narrower layer outside the space, or leaves out layers
                that the space does not, or in another order.
        """
        if outside := set(configuration.by_path) - {site.path for site in self.sites}:
            raise InputError(f"the space {self.name!r} has no site {min(outside)!r}")
        set_here = {column.layer for column in self.columns if isinstance(column, MlpWidth)}
        if narrower := set(configuration.by_layer) - set_here:
            raise InputError(f"the space {self.name!r} does not set the width of layer {min(narrower)}")
        if gone := configuration.left_out:
            if self.depth is None:
                raise InputError(f"the space {self.name!r} has no depth; it leaves out no layer, such as {gone[0]}")
            if gone != (ours := self.depth.left_out(self.depth.largest - len(gone))):
                raise InputError(
                    f"of the layers of the space {self.name!r}, the first {len(gone)} to be left out are "
                    f"{', '.join(map(str, ours))}, not {', '.join(map(str, gone))}"
                )
        return np.array(configuration.codes(self.columns), dtype=np.int64)

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Genes drawn uniformly from the choices. Shape (n, n_dimensions)."""
        return rng.integers(0, self.n_choices, size=(n, self.n_dimensions))

    def spread(self, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Genes spread from few to many sites, and from low to high ranks, widths and depths. Shape (n, n_dimensions).

        Independent uniform choices concentrate around one total cost; a predictor needs the whole range. So the share
        of dimensions with an adapter, and the mean position within the choices, are drawn from a Latin hypercube, one
        point per row.
        """
        share, level = ((rng.permuted(np.arange(n)) + rng.random(n)) / n for _ in range(2))
        genes = np.empty((n, self.n_dimensions), dtype=np.int64)
        has_zero = np.array([dimension.choices[0] == 0 for dimension in self.dimensions])
        lowest = has_zero.astype(np.int64)
        for row in range(n):
            # Beta(2 level, 2 - 2 level) has mean `level` and keeps some spread between the dimensions.
            height = rng.beta(max(2 * level[row], 1e-3), max(2 - 2 * level[row], 1e-3), size=self.n_dimensions)
            steps = np.minimum((height * (self.n_choices - lowest)).astype(np.int64), self.n_choices - lowest - 1)
            active = rng.random(self.n_dimensions) < share[row]
            genes[row] = np.where(active | ~has_zero, np.maximum(lowest + steps, 0), 0)
        return genes

    @cached_property
    def _values(self) -> NDArray[np.int64]:
        table = np.zeros((self.n_dimensions, int(self.n_choices.max())), dtype=np.int64)
        for number, dimension in enumerate(self.dimensions):
            table[number, : len(dimension.choices)] = dimension.choices
        return table

    @cached_property
    def _gone(self) -> NDArray[np.bool_]:
        """True where a column belongs to a layer left out at a depth. Shape (layers + 1, n_columns)."""
        gone = np.zeros(((self.depth.largest if self.depth else 0) + 1, self.n_columns), dtype=np.bool_)
        layers = np.array([-1 if isinstance(column, Depth) else column.layer for column in self.columns])
        for kept in range(1, len(gone)):
            gone[kept] = np.isin(layers, self.depth.left_out(kept)) if self.depth else False
        return gone

    @cached_property
    def _dimension_of_column(self) -> NDArray[np.int64]:
        owner = np.empty(self.n_columns, dtype=np.int64)
        for number, dimension in enumerate(self.dimensions):
            owner[list(dimension.columns)] = number
        return owner


def rank_space(
    name: str, sites: Sequence[Site], groups: Sequence[Sequence[int]], choices: Sequence[Sequence[int]]
) -> Space:
    """A space of ranks only.

    Args:
        name: Display name.
        sites: Sites in the order of the shape.
        groups: Indices of the sites that are tied.
        choices: Ranks of each group, ascending.
    """
    dimensions = tuple(
        Dimension(f"rank of {', '.join(sites[index].path for index in members)}", tuple(ranks), tuple(members))
        for members, ranks in zip(groups, choices, strict=True)
    )
    return Space(name, tuple(sites), dimensions)


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
            known = ", ".join([*NAMED, *sorted(others)])
            raise InputError(f"unknown space {name!r}; known are {known}, or a YAML file")
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
    allowed numbers of layers.

    Raises:
        InputError: The file cannot be read, or has other content.
    """
    try:
        content = _plain_yaml(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"space {str(file)!r} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"space {str(file)!r} is not YAML: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("groups"), list) or not content["groups"]:
        raise InputError(f"space {str(file)!r} needs a list `groups` of entries with `sites` and `ranks`")
    return grouped_space(str(file), content["groups"], shape)


def _plain_yaml(text: str) -> Any:
    """Content of a YAML text. Raises `yaml.YAMLError` for anything that expands: aliases and deep nesting."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError(f"it has an alias, *{event.anchor}; write the values out instead")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise yaml.YAMLError(f"it is nested deeper than {DEEPEST} levels")
    return yaml.safe_load(text)


def grouped_space(name: str, entries: Sequence[Any], shape: ModelShape) -> Space:
    """A space from the entries that `read_space` reads from a file. Raises `InputError` for other content."""
    groups = read_groups(name, entries, shape)
    used = {column for group in groups for column in group.columns}
    columns = tuple(column for column in (*shape.sites, *shape.mlp_widths, shape.depth) if column in used)
    index = {column: position for position, column in enumerate(columns)}
    return Space(
        name=name,
        columns=columns,
        dimensions=tuple(
            Dimension(title, group.choices, tuple(index[column] for column in members))
            for group in groups
            for title, members in group.dimensions()
        ),
    )
