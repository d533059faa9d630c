"""Request of a campaign: a space, the device, one phase and mode, and the limits of the measurement."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adaptare.core import InputError
from adaptare.devices import Device
from adaptare.profiler import Mode, Phase, Programs, Space


@dataclass(frozen=True)
class ProfileRequest:
    """Configurations of a space to measure into a store; fields without a description are those of `OverheadRequest`.

    Args:
        space: A `Space`, its name, or a YAML file; default: `blocks`, or `sites` with stubs.
        ranks: Ranks that a site may have, for a space by name.
        count: Number of configurations; all of a smaller space.
        length: Tokens of prefill, or cached positions of decode.
        every_site: True for one graph in which every site takes an adapter; unused sites get rank 0.
        half_width: Measuring a group ends when every interval is this narrow; 0.01 is 1 %.
        seconds: Time limit of each group of programs, including loading.
        openings: Maximum number of fresh loads of every program.
        minutes: No further measurement starts after this time; `None` for no limit.
        until_error: Error of a predictor on held-out adapters at which to stop, a share; `None` to measure all.
        quantities: Quantities to measure beside latency, such as energy.
    """

    model: str
    device: str | Device = "torch-cpu:threads=1"
    programs: Programs | None = None
    space: str | Space | None = None
    ranks: Sequence[int] | None = None
    count: int = 40
    phase: Phase = "decode"
    length: int = 64
    batch: int = 1
    mode: Mode = "swappable"
    every_site: bool = False
    half_width: float = 0.01
    seconds: float = 120.0
    openings: int | None = None
    minutes: float | None = None
    until_error: float | None = None
    recalibrate: bool = False
    stubs: bool = False
    quantities: Sequence[str] = ()
    store: str | Path = "adaptare.db"
    cache: str | Path | None = None
    seed: int = 0

    def check(self) -> None:
        """Raises `InputError` for limits that make no sense."""
        if self.minutes is not None and not self.minutes > 0:
            raise InputError(
                f"the limit must be above 0 minutes, not {self.minutes}; leave it out to measure everything",
                parameter="minutes",
            )
        if self.until_error is not None and not self.until_error > 0:
            raise InputError(
                "the wanted error must be above 0 %, as every predictor has some; choose for example 2 %",
                parameter="until_error",
            )
        if self.stubs and self.quantities:
            raise InputError(
                "stubs compose latency only; measure whole models, or no other quantity", parameter="stubs"
            )
