"""Default precision and time limit of every command that measures."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Pace:
    """Limits of one measurement: the first that is reached ends it; see `precise_within`.

    Args:
        half_width: Half-width of the widest interval; 0.01 is 1 %.
        seconds: Time limit of each phase and group, including loading.
    """

    half_width: float
    seconds: float


OVERHEAD: Final = Pace(0.01, 60.0)
PARTS: Final = Pace(0.01, 60.0)
PROFILE: Final = Pace(0.01, 120.0)
VERIFY: Final = Pace(0.005, 120.0)
DEMO: Final = Pace(0.005, 110.0)
QUICK_DEMO: Final = Pace(0.01, 40.0)
