"""When to stop measuring: rules that look at how far a group of candidates has come."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from adaptare.devices import InputError

LEAST_ROUNDS = 8
PRECISE = "precise"


@dataclass(frozen=True)
class Progress:
    """How far a group of candidates has come.

    Args:
        group: Which group of the session, from 0.
        groups: How many there are.
        candidates: Candidates in this group that still run.
        opening: Which opening of this group, from 0.
        rounds: Finished rounds of this opening.
        elapsed_s: Since the end of this opening's first round, seconds.
        half_widths: The widest relative half-width of any candidate's interval: in the first opening after each fourth
            round from the eighth on, in later ones once, over all openings before.
    """

    group: int
    groups: int
    candidates: int
    opening: int
    rounds: int
    elapsed_s: float
    half_widths: tuple[float, ...] = ()


class StoppingRule(Protocol):
    """Is asked after every round, and decides in the first opening.

    Later openings repeat its number of rounds; there only `interrupted` is heard.
    """

    def reason(self, progress: Progress) -> str:
        """Why to stop now, in a word or two; empty to go on."""
        ...


@dataclass(frozen=True)
class FixedRounds:
    """Stops after `rounds` rounds."""

    rounds: int

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise InputError(f"rounds must be at least 1, not {self.rounds}")

    def reason(self, progress: Progress) -> str:
        """See `StoppingRule.reason`."""
        return "rounds" if progress.rounds >= self.rounds else ""


@dataclass(frozen=True)
class Precise:
    """Stops when every interval is narrow: relative half-width at most `half_width`."""

    half_width: float

    def __post_init__(self) -> None:
        if not 0 < self.half_width < 1:
            raise InputError(f"half_width must lie between 0 and 1 (0.01 is 1 %), not {self.half_width}")

    def reason(self, progress: Progress) -> str:
        """See `StoppingRule.reason`."""
        reached = progress.half_widths and progress.half_widths[-1] <= self.half_width
        return PRECISE if reached else ""


@dataclass(frozen=True)
class NoGain:
    """Stops when the widest interval has not become narrower by a tenth over the last `checks` looks."""

    checks: int = 6

    def reason(self, progress: Progress) -> str:
        """See `StoppingRule.reason`."""
        widths = progress.half_widths
        stuck = len(widths) > self.checks and min(widths[-self.checks :]) > 0.9 * min(widths[: -self.checks])
        return "no gain" if stuck else ""


@dataclass(frozen=True)
class TimeBudget:
    """Stops after `seconds` per opening, but not before eight rounds."""

    seconds: float

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise InputError(f"a time budget must be above 0 s, not {self.seconds}")

    def reason(self, progress: Progress) -> str:
        """See `StoppingRule.reason`."""
        spent = progress.elapsed_s >= self.seconds and progress.rounds >= LEAST_ROUNDS
        return "budget" if spent else ""


@dataclass(frozen=True)
class FirstOf:
    """Stops when the first of its rules does."""

    rules: Sequence[StoppingRule]

    def reason(self, progress: Progress) -> str:
        """See `StoppingRule.reason`."""
        return next((reason for rule in self.rules if (reason := rule.reason(progress))), "")


def precise_within(half_width: float, seconds: float) -> FirstOf:
    """The usual rule: narrow enough, or no longer narrowing, or out of time."""
    return FirstOf((Precise(half_width), NoGain(), TimeBudget(seconds)))
