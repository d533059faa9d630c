"""Adapter configs: which linear carries a low-rank adapter, of which rank; to and from PEFT."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from adaptare.devices import InputError, Json
from adaptare.profiler.shape import ModelShape, Site


@dataclass(frozen=True)
class AdapterConfig:
    """Site -> rank; a site that is absent has no adapter.

    Args:
        ranks: Pairs of module path and rank, in any order; kept sorted by path. Rank 0 is for graphs that one adapter
            after another is fed to: the site is there and fed with nothing, which may still take time.
    """

    ranks: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        paths = [path for path, _ in self.ranks]
        if len(set(paths)) != len(paths):
            raise InputError("a site is named twice in an adapter config")
        for path, rank in self.ranks:
            if not isinstance(rank, int) or rank < 0:
                raise InputError(f"rank of {path} must be a whole number from 0, not {rank!r}")
        object.__setattr__(self, "ranks", tuple(sorted(self.ranks)))

    @classmethod
    def of(cls, ranks: Mapping[str, int]) -> "AdapterConfig":
        """From a mapping; rank 0 means no adapter there."""
        return cls(tuple((path, int(rank)) for path, rank in ranks.items() if rank != 0))

    @classmethod
    def uniform(cls, shape: ModelShape, rank: int, *, kinds: tuple[str, ...] = ()) -> "AdapterConfig":
        """The same rank on every site, or on the sites of the given kinds (`q_proj`, …)."""
        config = cls.of({site.path: rank for site in shape.sites if not kinds or site.kind in kinds})
        config.check(shape)
        return config

    def uncut(self, shape: ModelShape) -> "AdapterConfig":
        """The same in a graph that has every site: rank 0 where this has none."""
        return AdapterConfig(tuple((site.path, self.by_path.get(site.path, 0)) for site in shape.sites))

    @cached_property
    def by_path(self) -> Mapping[str, int]:
        """Module path -> rank."""
        return dict(self.ranks)

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return iter(self.ranks)

    def __len__(self) -> int:
        return len(self.ranks)

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
        """Weights in all A and B matrices."""
        sites = shape.site_by_path
        return sum(rank * (sites[path].in_features + sites[path].out_features) for path, rank in self.ranks)


def peft_arguments(config: AdapterConfig, scales: Mapping[str, float]) -> dict[str, Json]:
    """Keyword arguments of a `peft.LoraConfig` with exactly these sites, ranks and scales.

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
    }


def _plain(value: float) -> int | float:
    return int(value) if value == int(value) else value


def read_peft(folder: str | Path, shape: ModelShape) -> AdapterConfig:
    """The adapter config in a PEFT folder (`adapter_config.json`, with or without weights beside it).

    Weights, where they are, decide: their shapes are what is loaded. Without them sites and ranks follow
    from `target_modules`, `exclude_modules`, `layers_to_transform` and `rank_pattern`, as PEFT reads them.

    Raises:
        InputError: It is no LoRA folder, or an adapter of another base model.
    """
    file = Path(folder) / "adapter_config.json"
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{folder} is no PEFT adapter folder: adapter_config.json cannot be read ({error.strerror})"
        ) from error
    except ValueError as error:
        raise InputError(f"{file} is not JSON: {error}") from error
    kind = settings.get("peft_type") if isinstance(settings, dict) else None
    if kind != "LORA":
        raise InputError(f"{file}: peft_type is {kind!r}; only LORA adapters are understood")
    if settings.get("use_dora"):
        raise InputError(f"{file}: DoRA changes what runs at every adapted layer and is not supported yet")
    weights = Path(folder) / "adapter_model.safetensors"
    if weights.exists():
        return AdapterConfig.of(_ranks_of_weights(weights, shape))
    try:
        ranks = {site.path: _rank(site, settings) for site in shape.sites if _targets(site, settings)}
    except (re.error, AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{file}: its target modules or ranks cannot be understood: {error}") from error
    config = AdapterConfig.of(ranks)
    if not len(config):
        raise InputError(f"{file}: its target modules match no linear of the base model; is it of another model?")
    config.check(shape)
    return config


def _ranks_of_weights(file: Path, shape: ModelShape) -> dict[str, int]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(file), framework="numpy") as tensors:
            sizes = {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(f"{file} cannot be read, it may be incomplete: {error}") from error
    ranks: dict[str, dict[str, int]] = {}
    for name, size in sizes.items():
        found = re.fullmatch(r"base_model\.model\.(.+)\.lora_(A|B)\.weight", name)
        if not found or len(size) != 2:
            raise InputError(f"{file}: {name!r} belongs to no low-rank adapter of a linear")
        path, half = found.groups()
        site = shape.site_by_path.get(path)
        rank, width = size if half == "A" else reversed(size)
        expected = site and (site.in_features if half == "A" else site.out_features)
        if width != expected:
            of = f"{expected} wide there" if site else "without such a linear"
            raise InputError(
                f"{file} is an adapter of another base model: {name} is {size[0]} x {size[1]}, this one is {of}"
            )
        ranks.setdefault(path, {})[half] = int(rank)
    incomplete = [path for path, halves in ranks.items() if len(halves) < 2 or len(set(halves.values())) > 1]
    if incomplete or not ranks:
        raise InputError(
            f"{file} is incomplete: {(incomplete or ['every linear'])[0]} lacks an A and a B of equal rank"
        )
    return {path: halves["A"] for path, halves in ranks.items()}


def _targets(site: Site, settings: Mapping[str, Any]) -> bool:
    excluded, targets = settings.get("exclude_modules"), settings.get("target_modules")
    if (excluded and _names(site, excluded)) or not _names(site, targets):
        return False
    layers = settings.get("layers_to_transform")
    # PEFT asks for the layer only where a suffix matched, not for an expression or a whole path.
    if layers in (None, []) or isinstance(targets, str) or site.path in (targets or ()):
        return True
    return site.layer in ([layers] if isinstance(layers, int) else layers)


def _names(site: Site, modules: Any) -> bool:
    if isinstance(modules, str):
        return modules.lower() == "all-linear" or re.fullmatch(modules, site.path) is not None
    return any(site.path == module or site.path.endswith(f".{module}") for module in modules or ())


def _rank(site: Site, settings: Mapping[str, Any]) -> int:
    patterns: Mapping[str, int] = settings.get("rank_pattern") or {}
    for pattern, rank in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", site.path):
            return rank
    return int(settings.get("r", 8))
