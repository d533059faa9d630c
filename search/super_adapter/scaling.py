"""Scale of a low-rank update: the factor in y = W x + factor * B A x."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite, sqrt

from adaptare.core import InputError

DEFAULT_ALPHA = 32.0
# name -> factor of (alpha, active rank, largest rank)
SCALING_RULES: Mapping[str, Callable[[float, int, int], float]] = {
    "constant": lambda alpha, rank, largest: alpha / largest,
    "per-rank": lambda alpha, rank, largest: alpha / rank,
    "rank-stabilised": lambda alpha, rank, largest: alpha / sqrt(rank),
}


@dataclass(frozen=True)
class Scaling:
    """Scaling rule and its alpha.

    `constant` divides alpha by the site's largest rank at any active rank, so the output of a slice does not depend on
    the inactive rows: the rule of nested adapters and the default. `per-rank` divides by the active rank, as LoRA
    does; `rank-stabilised` by its square root.

    Args:
        rule: One of `SCALING_RULES`.
        alpha: Numerator of the factor, above 0.

    References:
        Hu 2021, "LoRA", section 4.1; Kalajdzievski 2023, "A rank stabilization scaling factor", theorem 3.2;
        Valipour 2022, "DyLoRA", section 3.
    """

    rule: str = "constant"
    alpha: float = DEFAULT_ALPHA

    def __post_init__(self) -> None:
        if self.rule not in SCALING_RULES:
            raise InputError(f"unknown scaling rule {self.rule!r}; rules are {', '.join(SCALING_RULES)}")
        if not (isfinite(self.alpha) and self.alpha > 0):
            raise InputError(f"alpha of a scaling must be a number above 0, not {self.alpha!r}")

    def factor(self, rank: int, largest: int) -> float:
        """Factor on B A x at an active rank >= 1 of a site with the given largest rank."""
        return SCALING_RULES[self.rule](self.alpha, rank, largest)
