"""Spaces of adapter configs, written down as integers: the codes that searches and predictors work on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from adaptare.devices import InputError
from adaptare.profiler.adapter import AdapterConfig
from adaptare.profiler.shape import ModelShape, Site

ATTENTION = ("*.self_attn.*",)
MLP = ("*.mlp.*",)
DEFAULT_RANKS = (0, 2, 4, 8, 16)
# Levels in the YAML file of a space; it needs four.
DEEPEST = 20
# name -> (one tie group per layer for each of these glob lists, what it is for)
RECIPES: Mapping[str, Sequence[Sequence[str]]] = {
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
class RankSpace:
    """Ranks per site, some sites tied to have the same.

    Codes are ranks: shape (n_configs, n_sites), 0 = no adapter. Genes are choices: shape (n_configs, n_groups),
    each the index of a rank in its group's list; `expand` turns genes into codes.

    Args:
        name: The recipe or file it came from.
        sites: The sites of the space, in the order of the shape.
        groups: For each group, the indices of its tied sites.
        choices: For each group, the ranks it may take, ascending.
    """

    name: str
    sites: tuple[Site, ...]
    groups: tuple[tuple[int, ...], ...]
    choices: tuple[tuple[int, ...], ...]

    @property
    def n_sites(self) -> int:
        """Columns of the codes."""
        return len(self.sites)

    @property
    def n_groups(self) -> int:
        """Columns of the genes."""
        return len(self.groups)

    @cached_property
    def n_choices(self) -> NDArray[np.int64]:
        """Ranks each group may take. Shape (n_groups,)."""
        return np.array([len(ranks) for ranks in self.choices], dtype=np.int64)

    def expand(self, genes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Codes of genes. Shape (n, n_groups) -> (n, n_sites)."""
        return self._ranks[np.arange(self.n_groups), genes][:, self._group_of_site]

    def decode(self, codes: NDArray[np.int64] | Sequence[int]) -> AdapterConfig:
        """The adapter config of one row of codes, shape (n_sites,)."""
        return AdapterConfig.of({site.path: int(rank) for site, rank in zip(self.sites, codes, strict=True)})

    def encode(self, config: AdapterConfig) -> NDArray[np.int64]:
        """The row of codes of an adapter config, shape (n_sites,). Its ranks need not be among the choices.

        Raises:
            InputError: The config has an adapter on a site outside the space.
        """
        outside = set(config.by_path) - {site.path for site in self.sites}
        if outside:
            raise InputError(f"the space {self.name!r} has no site {min(outside)!r}")
        return np.array([config.by_path.get(site.path, 0) for site in self.sites], dtype=np.int64)

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Genes with every choice equally likely. Shape (n, n_groups)."""
        return rng.integers(0, self.n_choices, size=(n, self.n_groups))

    def spread(self, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Genes spread evenly from few to many sites and from low to high ranks. Shape (n, n_groups).

        Independent uniform choices all have about the same total cost; a predictor needs the whole range. So
        the share of groups with an adapter, and how far up its list a group goes, are each drawn from a
        Latin hypercube per row.
        """
        share, level = ((rng.permuted(np.arange(n)) + rng.random(n)) / n for _ in range(2))
        genes = np.empty((n, self.n_groups), dtype=np.int64)
        for row in range(n):
            # Beta(2 level, 2 - 2 level) has mean `level` and keeps some spread between the groups.
            height = rng.beta(max(2 * level[row], 1e-3), max(2 - 2 * level[row], 1e-3), size=self.n_groups)
            has_zero = np.array([ranks[0] == 0 for ranks in self.choices])
            lowest = has_zero.astype(np.int64)
            steps = np.minimum((height * (self.n_choices - lowest)).astype(np.int64), self.n_choices - lowest - 1)
            active = rng.random(self.n_groups) < share[row]
            genes[row] = np.where(active | ~has_zero, np.maximum(lowest + steps, 0), 0)
        return genes

    @cached_property
    def _ranks(self) -> NDArray[np.int64]:
        table = np.zeros((self.n_groups, int(self.n_choices.max())), dtype=np.int64)
        for group, ranks in enumerate(self.choices):
            table[group, : len(ranks)] = ranks
        return table

    @cached_property
    def _group_of_site(self) -> NDArray[np.int64]:
        owner = np.empty(self.n_sites, dtype=np.int64)
        for group, members in enumerate(self.groups):
            owner[list(members)] = group
        return owner


def named_space(
    recipe: str, shape: ModelShape, *, ranks: Sequence[int] = DEFAULT_RANKS, layers_alike: bool = False
) -> RankSpace:
    """A space by recipe: `layers`, `blocks` (attention and MLP), `kinds` (qkv, o, gate and up, down) or `sites`.

    The name says what has a rank of its own: each layer, each half of each layer, and so on; where layers are to be
    alike, the same half of all layers.
    """
    if recipe not in RECIPES:
        raise InputError(f"unknown space {recipe!r}; recipes are {', '.join(RECIPES)}, or name a YAML file")
    globs, tie = RECIPES[recipe], "all" if layers_alike else "layer"
    if not globs:
        kinds = dict.fromkeys(site.kind for site in shape.sites)
        globs, tie = ([[f"*.{kind}"] for kind in kinds], tie) if layers_alike else ([["*"]], "none")
    parts = [{"sites": list(each), "tie": tie} for each in globs]
    return _build(recipe, [{**part, "ranks": list(ranks)} for part in parts], shape)


def read_space(file: str | Path, shape: ModelShape) -> RankSpace:
    """A space from a YAML file.

    Each entry of `groups` has `sites` (globs on module paths), `ranks`, and `tie`: `layer` (one rank per decoder
    layer, the default), `all` (one rank for all its sites) or `none`. A site belongs to the first entry that names
    it; a site that none names is not in the space.

    Raises:
        InputError: The file cannot be read, or says something else.
    """
    try:
        content = _plain_yaml(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"space {str(file)!r} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"space {str(file)!r} is not YAML: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("groups"), list) or not content["groups"]:
        raise InputError(f"space {str(file)!r} needs a list `groups` of entries with `sites` and `ranks`")
    return _build(str(file), content["groups"], shape)


def _plain_yaml(text: str) -> Any:
    """The content of a YAML text. Raises `yaml.YAMLError` for what grows when it is read: aliases and deep nesting."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError(f"it has an alias, *{event.anchor}; write the values out instead")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise yaml.YAMLError(f"it is nested deeper than {DEEPEST} levels")
    return yaml.safe_load(text)


def _build(name: str, entries: Sequence[Any], shape: ModelShape) -> RankSpace:
    groups: dict[tuple[int, str], list[Site]] = {}
    choices: dict[int, tuple[int, ...]] = {}
    taken: set[str] = set()
    for number, entry in enumerate(entries):
        globs, ranks, tie = _checked(name, number, entry)
        members = [
            site
            for site in shape.sites
            if site.path not in taken and any(fnmatchcase(site.path, pattern) for pattern in globs)
        ]
        if not members:
            raise InputError(f"space {name!r}, entry {number + 1}: {globs} names no linear that is still free")
        largest = min(site.largest_rank for site in members)
        if ranks[-1] > largest:
            raise InputError(f"space {name!r}, entry {number + 1}: rank {ranks[-1]} is larger than a layer ({largest})")
        choices[number] = ranks
        taken.update(site.path for site in members)
        for site in members:
            key = {"layer": str(site.layer), "all": "", "none": site.path}[tie]
            groups.setdefault((number, key), []).append(site)
    sites = tuple(site for site in shape.sites if site.path in taken)
    index = {site.path: position for position, site in enumerate(sites)}
    return RankSpace(
        name=name,
        sites=sites,
        groups=tuple(tuple(index[site.path] for site in members) for members in groups.values()),
        choices=tuple(choices[number] for number, _ in groups),
    )


def _checked(name: str, number: int, entry: Any) -> tuple[list[str], tuple[int, ...], str]:
    where = f"space {name!r}, entry {number + 1}"
    if not isinstance(entry, dict) or not {"sites", "ranks"} <= set(entry) <= {"sites", "ranks", "tie"}:
        raise InputError(f"{where}: needs `sites` and `ranks`, may have `tie`; has {entry!r}")
    globs = [entry["sites"]] if isinstance(entry["sites"], str) else entry["sites"]
    if not isinstance(globs, list) or not all(isinstance(pattern, str) for pattern in globs):
        raise InputError(f"{where}: `sites` must be a glob or a list of globs, not {entry['sites']!r}")
    ranks = entry["ranks"]
    whole = isinstance(ranks, list) and ranks and all(type(rank) is int and rank >= 0 for rank in ranks)
    if not whole or len(set(ranks)) != len(ranks):
        raise InputError(f"{where}: `ranks` must be different whole numbers >= 0, not {ranks!r}")
    if max(ranks) == 0:
        raise InputError(f"{where}: `ranks` must have one above 0, or there is nothing to adapt")
    tie = entry.get("tie", "layer")
    if tie not in ("layer", "all", "none"):
        raise InputError(f"{where}: `tie` must be layer, all or none, not {tie!r}")
    return globs, tuple(sorted(ranks)), tie
