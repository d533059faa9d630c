"""Ways in which a runtime may apply an adapter, right and wrong ones."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from math import inf, isclose, nan, sqrt
from typing import Any, Final

import numpy as np

from adaptare.core import DeviceError, InputError
from adaptare.profiler import ModelShape
from adaptare.profiler.workloads import Halves
from adaptare.search.checking.finding import Finding, SiteFinding
from adaptare.search.checking.runtimes import AdapterRuntime
from adaptare.search.export.peft import Rule, scale_of_one_rank, scale_of_patterns

Updates = Mapping[str, Halves]
DEFAULTS: Final[Mapping[str, Any]] = {"r": 8, "lora_alpha": 8}


@dataclass(frozen=True)
class Hypothesis:
    """A way to apply an adapter.

    Args:
        reason: Explanation, as a clause.
        halves: Module path -> update that the runtime computes.
        factors: Module path -> its scale over the right one; NaN if another update is computed.
    """

    reason: str
    halves: Updates
    factors: Mapping[str, float]


def _with(**changes: Any) -> Rule:
    """Rule of PEFT for a config with other settings."""
    return lambda settings, path, rank: scale_of_patterns({**settings, **changes}, path, rank)


# Wrong rules that runtimes are known to follow, the most common ones first.
RULES: Final[Mapping[str, Rule]] = {
    "alpha_pattern is ignored": _with(alpha_pattern=None),
    "use_rslora is ignored": _with(use_rslora=False),
    "alpha is divided by the square root of the rank, though use_rslora is not set": _with(use_rslora=True),
    "rank_pattern is ignored: alpha is divided by r on every site": lambda settings, path, rank: (
        scale_of_patterns(settings, path, rank) * _divisor(settings, rank) / _divisor(settings, settings["r"])
    ),
    "alpha_pattern and rank_pattern are ignored": scale_of_one_rank,
    "no alpha is read: the scale is 1": lambda settings, path, rank: 1.0,
    "alpha is not divided by the rank": lambda settings, path, rank: (
        scale_of_patterns(settings, path, rank) * _divisor(settings, rank)
    ),
    "the scale is applied twice": lambda settings, path, rank: scale_of_patterns(settings, path, rank) ** 2,
}


def _divisor(settings: Mapping[str, Any], rank: int) -> float:
    return sqrt(rank) if settings.get("use_rslora") else rank


def factors_of(rule: Rule, settings: Mapping[str, Any], ranks: Mapping[str, int]) -> dict[str, float]:
    """Module path -> scale by a rule over that of PEFT. Raises `InputError` if the config is not of these ranks."""
    filled = {**DEFAULTS, **settings}
    try:
        right = {path: scale_of_patterns(filled, path, rank) for path, rank in ranks.items()}
        found = {path: rule(filled, path, rank) for path, rank in ranks.items()}
    except DeviceError as error:
        raise InputError(f"config and weights of the adapter disagree ({error}); save it again with PEFT") from error
    return {path: scale / right[path] if right[path] else 1.0 if not scale else inf for path, scale in found.items()}


def by_rules(settings: Mapping[str, Any], halves: Updates) -> Iterator[Hypothesis]:
    """Rules whose scales differ from the right ones; padded ranks are divided by the largest one."""
    ranks = {path: own.rank for path, own in halves.items()}
    largest = max(ranks.values())
    padded = "ranks are padded to the largest, and alpha is divided by that one"
    rules = {reason: factors_of(rule, settings, ranks) for reason, rule in RULES.items()}
    rules[padded] = {path: _divisor(settings, rank) / _divisor(settings, largest) for path, rank in ranks.items()}
    seen: list[dict[str, float]] = [dict.fromkeys(halves, 1.0)]
    for reason, factors in rules.items():
        if not any(_alike(factors, other) for other in seen):
            seen.append(factors)
            yield with_factors(halves, factors, reason)


def finding_by_rule(runtime: AdapterRuntime, settings: Mapping[str, Any], ranks: Mapping[str, int]) -> Finding:
    """Factors at which a runtime applies an adapter of these ranks, by its rule for the config."""
    if runtime.rule is None:
        raise ValueError(f"no rule of {runtime.name} is known; pass a runtime with `rule`")
    filled = {**DEFAULTS, **settings}
    factors = factors_of(runtime.rule, settings, ranks)
    sites = tuple(
        SiteFinding(path, rank, scale_of_patterns(filled, path, rank), factors[path]) for path, rank in ranks.items()
    )
    if _alike(factors, dict.fromkeys(ranks, 1.0)):
        return Finding("applied", "", sites)
    found = (reason for reason, rule in RULES.items() if _alike(factors_of(rule, settings, ranks), factors))
    return Finding("applied wrongly", next(found, "the scale is another one"), sites)


def _alike(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    return all(isclose(one[path], other[path], rel_tol=1e-3) for path in one)


def scaled(halves: Updates, factors: Mapping[str, float]) -> dict[str, Halves]:
    """Updates with factors on their scales; sites without a factor are unchanged, those with factor 0 are left out."""
    kept = {path: (own, factors.get(path, 1.0)) for path, own in halves.items()}
    return {path: replace(own, scale=own.scale * factor) for path, (own, factor) in kept.items() if factor}


def with_factors(halves: Updates, factors: Mapping[str, float], reason: str = "") -> Hypothesis:
    """All sites, with factors on their scales."""
    return Hypothesis(reason, scaled(halves, factors), factors)


def with_other_rows(halves: Updates, shape: ModelShape) -> Iterator[Hypothesis]:
    """Rows of q and k in the order of llama.cpp's rotary halves instead of that of transformers, or the reverse."""
    heads = {"q_proj": shape.heads, "k_proj": shape.kv_heads}
    sites = {path: heads[kind] for path in halves if (kind := path.rpartition(".")[2]) in heads}
    if not sites or shape.head_dim % 2:
        return
    half = shape.head_dim // 2
    for reason, order in (
        ("rows of B of q_proj and k_proj are in the order of llama.cpp", (2, half)),
        ("rows of B of q_proj and k_proj are not in the order of the base of llama.cpp", (half, 2)),
    ):
        other = {path: replace(halves[path], B=_permuted(halves[path].B, n, order)) for path, n in sites.items()}
        yield Hypothesis(reason, {**halves, **other}, {**dict.fromkeys(halves, 1.0), **dict.fromkeys(other, nan)})


def _permuted(B: Any, heads: int, order: tuple[int, int]) -> Any:
    rows = B.reshape(heads, *order, B.shape[1]).swapaxes(1, 2)
    return np.ascontiguousarray(rows.reshape(B.shape))


def omissions(halves: Updates) -> Iterator[Hypothesis]:
    """No site, and all sites but those of one kind or one layer."""
    names: dict[str, Callable[[str], str]] = {
        "no {} is adapted": lambda path: path.rpartition(".")[2],
        "{} is left out": lambda path: ".".join(path.split(".")[:3]),
    }
    yield with_factors(halves, dict.fromkeys(halves, 0.0), "the logits are those of the base")
    for words, name in names.items():
        groups = dict.fromkeys(map(name, halves))
        for group in groups if len(groups) > 1 else ():
            yield without(halves, [path for path in halves if name(path) == group], words.format(group))


def without(halves: Updates, left_out: Collection[str], reason: str = "") -> Hypothesis:
    """All sites but some."""
    return with_factors(halves, {path: 0.0 if path in left_out else 1.0 for path in halves}, reason)
