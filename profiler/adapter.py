"""Adapter configs: which linear carries a low-rank adapter, of which rank and kind; and what PEFT makes of them."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

from adaptare.devices import InputError, Json
from adaptare.profiler.shape import ModelShape

AdapterKind = Literal["lora", "dora"]


@dataclass(frozen=True)
class AdapterConfig:
    """Site -> rank; a site that is absent has no adapter.

    Args:
        ranks: Pairs of module path and rank, in any order; kept sorted by path. Rank 0 is for graphs that one adapter
            after another is fed to: the site is there and fed with nothing, which may still take time.
        kind: `lora` adds B A x, whatever the scale (rsLoRA only has another). `dora` also gives every row of W + B A
            a length of its own, which PEFT computes anew in every call.

    References:
        Hu et al. 2022, "LoRA"; Liu et al. 2024, "DoRA: weight-decomposed low-rank adaptation".
    """

    ranks: tuple[tuple[str, int], ...] = ()
    kind: AdapterKind = "lora"

    def __post_init__(self) -> None:
        if self.kind not in get_args(AdapterKind):
            raise InputError(f"kind must be one of {', '.join(get_args(AdapterKind))}, not {self.kind!r}")
        paths = [path for path, _ in self.ranks]
        if len(set(paths)) != len(paths):
            raise InputError("a site is named twice in an adapter config")
        for path, rank in self.ranks:
            if not isinstance(rank, int) or rank < 0:
                raise InputError(f"rank of {path} must be a whole number from 0, not {rank!r}")
        object.__setattr__(self, "ranks", tuple(sorted(self.ranks)))

    @classmethod
    def of(cls, ranks: Mapping[str, int], *, kind: AdapterKind = "lora") -> "AdapterConfig":
        """From a mapping; rank 0 means no adapter there."""
        return cls(tuple((path, int(rank)) for path, rank in ranks.items() if rank != 0), kind)

    @classmethod
    def uniform(cls, shape: ModelShape, rank: int, *, kinds: tuple[str, ...] = ()) -> "AdapterConfig":
        """The same rank on every site, or on the sites of the given kinds (`q_proj`, …)."""
        config = cls.of({site.path: rank for site in shape.sites if not kinds or site.kind in kinds})
        config.check(shape)
        return config

    def uncut(self, shape: ModelShape) -> "AdapterConfig":
        """The same in a graph that has every site: rank 0 where this has none."""
        return AdapterConfig(tuple((site.path, self.by_path.get(site.path, 0)) for site in shape.sites), self.kind)

    @property
    def active(self) -> int:
        """Sites with a rank above 0."""
        return sum(rank > 0 for _, rank in self.ranks)

    @cached_property
    def by_path(self) -> Mapping[str, int]:
        """Module path -> rank."""
        return dict(self.ranks)

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return iter(self.ranks)

    def __len__(self) -> int:
        return len(self.ranks)

    def by_layer(self, shape: ModelShape) -> list[dict[str, int]]:
        """Module path -> rank of every layer, with the paths of the first layer."""
        layers: list[dict[str, int]] = [{} for _ in range(shape.layers)]
        for path, rank in self.ranks:
            layer = shape.site_by_path[path].layer
            layers[layer][path.replace(f".{layer}.", ".0.", 1)] = rank
        return layers

    def check(self, shape: ModelShape) -> None:
        """Raises `InputError` if a site is not in the shape, or a rank is larger than the layer."""
        for path, rank in self.ranks:
            site = shape.site_by_path.get(path)
            if site is None:
                raise InputError(f"the base model has no linear {path!r}; its first is {shape.sites[0].path!r}")
            if rank > site.largest_rank:
                raise InputError(
                    f"rank {rank} is larger than {path}, which is {site.in_features} x {site.out_features}; "
                    f"use at most {site.largest_rank}"
                )

    def adapter_parameters(self, shape: ModelShape) -> int:
        """Weights in all A and B matrices, and the lengths of rows that DoRA has beside them."""
        sites = [(shape.site_by_path[path], rank) for path, rank in self.ranks]
        lengths = sum(site.out_features for site, _ in sites) if self.kind == "dora" else 0
        return lengths + sum(rank * (site.in_features + site.out_features) for site, rank in sites)


def peft_arguments(config: AdapterConfig, scales: Mapping[str, float]) -> dict[str, Json]:
    """Keyword arguments of a `peft.LoraConfig` with exactly these sites, ranks and scales, of the same kind.

    PEFT scales an adapter by alpha / rank, so alpha is written as scale x rank for every site; `rank_pattern`
    and `alpha_pattern` hold what differs from the most common value. Their keys are whole module paths, with
    dots escaped because PEFT matches them as regular expressions.

    Args:
        config: At least one site.
        scales: Module path -> factor on B A x.

    Raises:
        InputError: No site has an adapter; PEFT cannot express that.
    """
    if not len(config):
        raise InputError("an adapter without any site cannot be written for PEFT; the base model is the result")
    alphas = {path: _plain(scales[path] * rank) for path, rank in config}
    rank = Counter(config.by_path.values()).most_common(1)[0][0]
    alpha = Counter(alphas.values()).most_common(1)[0][0]
    return {
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": [path for path, _ in config],
        "rank_pattern": {re.escape(path): own for path, own in config if own != rank},
        "alpha_pattern": {re.escape(path): own for path, own in alphas.items() if own != alpha},
        **({"use_dora": True} if config.kind == "dora" else {}),
    }


def _plain(value: float) -> int | float:
    return int(value) if value == int(value) else value
