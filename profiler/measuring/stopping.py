"""Stopping rules: when an opening (one fresh load of all programs) and a group of candidates have enough samples."""

import math
from dataclasses import dataclass
from typing import Protocol

from adaptare.core import InputError
from adaptare.profiler.analysis import LEAST_OPENINGS

PRECISE = "precise"
# Rounds of one opening. The best number balances the spread between rounds with that between openings, which costs the
# time of loading. It is about 4 with 4-bit weights, 5 in 32 bits and 18 in PyTorch; 8 takes at most 15 % longer than
# each (Kalibera and Jones 2013, section 9). Where rounds are slow, four are enough.
ROUNDS, LEAST_ROUNDS = 8, 4
# The first opening is shorter, for an early first result. With half as many rounds it still counts.
FIRST_ROUNDS = 6
# Rounds of one opening take at most this share of the time.
OPENING_SHARE = 1 / 8
# Stopping at the first narrow interval is biased towards intervals that are too narrow. When checked from the sixth
# opening on, coverage is at least 93 %, for any spread between openings; from the fourth on, 91 % (simulated).
LEAST_PRECISE_OPENINGS = 6


@dataclass(frozen=True)
class Progress:
    """State of a group of candidates.

    Args:
        group: Number of the group in the session, from 0.
        groups: Groups of the session.
        candidates: Candidates of this group that have not failed.
        opening: Number of the opening in this group, from 0.
        rounds: Finished rounds of this opening.
        rounds_s: Time since the first of these rounds was finished, seconds.
        elapsed_s: Time since the group began, loading included, seconds.
        half_width: Half-width of the widest interval over all finished openings, as a share of the latency of the
            candidate or of the reference, whichever is less; infinite before the first is finished.
    """

    group: int
    groups: int
    candidates: int
    opening: int
    rounds: int = 0
    rounds_s: float = 0.0
    elapsed_s: float = 0.0
    half_width: float = math.inf


class StoppingRule(Protocol):
    """Ends openings and groups."""

    @property
    def openings(self) -> int | None:
        """Maximum openings of a group, unless the caller sets it; `None` for no limit."""
        ...

    def opening_reason(self, progress: Progress) -> str:
        """Reason to end this opening, checked after every round; empty to go on. `interrupted` ends the session."""
        ...

    def reason(self, progress: Progress) -> str:
        """Reason to end the group, checked after every opening; empty to go on."""
        ...


@dataclass(frozen=True)
class FixedRounds:
    """The same number of rounds in every opening, and the requested number of openings."""

    rounds: int
    openings: int = 1

    def __post_init__(self) -> None:
        for name, value in (("rounds", self.rounds), ("openings", self.openings)):
            if value < 1:
                raise InputError(f"{name} must be at least 1, not {value}")

    def opening_reason(self, progress: Progress) -> str:
        return "rounds" if progress.rounds >= self.rounds else ""

    def reason(self, progress: Progress) -> str:
        return ""


@dataclass(frozen=True)
class PreciseWithin:
    """Many short openings, until every interval over them is narrow enough or the time is up.

    Args:
        half_width: Target for the widest interval; see `Progress`.
        seconds: Time limit of a group, including loading. Four openings are always run.
        openings: Maximum number of openings; default: limited by time only.
    """

    half_width: float
    seconds: float
    openings: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.half_width < 1:
            raise InputError(f"half_width must lie between 0 and 1 (0.01 is 1 %), not {self.half_width}")
        if not self.seconds > 0:
            raise InputError(f"a time budget must be above 0 s, not {self.seconds}")
        if self.openings is not None and self.openings < 1:
            raise InputError(f"openings must be at least 1, not {self.openings}")

    def opening_reason(self, progress: Progress) -> str:
        slow = progress.rounds_s >= OPENING_SHARE * self.seconds and progress.rounds >= LEAST_ROUNDS
        rounds = ROUNDS if progress.opening else FIRST_ROUNDS
        return "rounds" if slow or progress.rounds >= rounds else ""

    def reason(self, progress: Progress) -> str:
        openings = progress.opening + 1
        if openings >= LEAST_PRECISE_OPENINGS and progress.half_width <= self.half_width:
            return PRECISE
        # The next opening is expected to take as long as the mean of the previous ones.
        late = progress.elapsed_s * (openings + 1) / openings > self.seconds
        return "budget" if late and openings >= LEAST_OPENINGS else ""


precise_within = PreciseWithin
"""The default rule."""
