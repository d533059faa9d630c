"""Results of a check: the verdict, its reason, and the factor at which each site is applied."""

from dataclasses import dataclass
from math import nan
from typing import Literal

Verdict = Literal["applied", "not applied", "applied wrongly", "another base", "not loaded", "uncertain"]


@dataclass(frozen=True)
class SiteFinding:
    """Application of an adapter on one linear.

    Args:
        path: Module path.
        rank: Rank of the adapter.
        scale: Factor on B A x that PEFT computes.
        factor: Factor of the runtime over that of PEFT: 1 if right, 0 if not applied; NaN if no factor explains it.
        note: Fault of the tensors in the runtime's file; empty if there is none.
    """

    path: str
    rank: int
    scale: float
    factor: float
    note: str = ""


@dataclass(frozen=True)
class Finding:
    """Answer of a check.

    Args:
        verdict: The answer in a word or two.
        reason: Explanation, as a clause; empty if the adapter is applied.
        sites: All sites of the adapter.
        scale: Regression of the change of the logits on that which PEFT computes; NaN if the runtime was not run.
        difference: Largest difference of the logits from PEFT's, over the largest; NaN if the runtime was not run.
        resolution: Share of the adapter's effect on the logits that remains unexplained; NaN if it was not run.
    """

    verdict: Verdict
    reason: str
    sites: tuple[SiteFinding, ...]
    scale: float = nan
    difference: float = nan
    resolution: float = nan
