"""Settings of a measuring session that every layer of it passes along."""

from dataclasses import dataclass
from functools import cached_property

from adaptare.core import InputError
from adaptare.devices import Device
from adaptare.profiler.measuring.stopping import StoppingRule
from adaptare.profiler.programs.builders import Programs, programs_for


@dataclass(frozen=True)
class ProfileOptions:
    """Device, stopping rule and seed of a session.

    Args:
        device: Device that runs and times the programs.
        stop: Rule that ends openings (fresh loads of all programs), and groups of candidates.
        seed: Seed of the order of visits.
        openings: Maximum number of openings; the outer level of the intervals. Default: set by the rule: one for fixed
            rounds, as many as the time allows for `precise_within`.
        programs: Program builder of the device's runtime; default: the result of `programs_for`.

    Raises:
        InputError: `openings` is below 1.
    """

    device: Device
    stop: StoppingRule
    seed: int
    openings: int | None = None
    programs: Programs | None = None

    def __post_init__(self) -> None:
        if self.openings is not None and self.openings < 1:
            raise InputError(f"openings must be at least 1, not {self.openings}")

    @cached_property
    def builder(self) -> Programs:
        """The program builder."""
        return self.programs or programs_for(self.device.info())
