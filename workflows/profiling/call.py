"""One model in one phase, with at most one adapter: what operators and parts are reported of."""

from dataclasses import dataclass
from pathlib import Path

from adaptare.devices import Device
from adaptare.profiler import Mode, Phase, Programs, Workload
from adaptare.workflows.grid import Case, cases_of
from adaptare.workflows.target import Target, opened


@dataclass(frozen=True)
class CallRequest:
    """Calls of a model; fields without a description are those of `OverheadRequest`.

    Args:
        adapter: PEFT folder; `None` for the same rank on every site.
        rank: Rank without a folder.
        sites: Kinds of linears with commas; `None` for all linears.
        length: Tokens of prefill, or cached positions of decode.
    """

    model: str
    adapter: Path | None = None
    rank: int = 16
    sites: str | None = None
    device: str | Device = "torch-cpu:threads=1"
    phase: Phase = "decode"
    length: int = 64
    batch: int = 1
    mode: Mode = "swappable"
    cache: Path | None = None

    def opened(self) -> tuple[Target, Programs, Case, Workload]:
        """The device, its programs, the adapter, and the workload without it. Raises `InputError`."""
        target, shape, programs = opened(self.model, self.device, cache=self.cache)
        placements = [] if self.sites is None else [self.sites]
        folders = [self.adapter] if self.adapter else []
        (case,) = cases_of(shape, folders, ranks=[self.rank], placements=placements)
        template = Workload(
            shape,
            mode=self.mode,
            phase=self.phase,
            tokens=self.length,
            past=self.length,
            batch=self.batch,
            **target.weights,
        )
        return target, programs, case, template
