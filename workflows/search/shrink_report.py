"""Report of an adapter cut to a budget, compared with the original and with simpler cuts."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptare.core.exit_codes import ExitCode
from adaptare.core.table import Column, Note, Section, Table
from adaptare.core.units import between, milliseconds
from adaptare.profiler import Configuration


@dataclass(frozen=True)
class Cut:
    """Adapter before or after a cut.

    Args:
        name: `original`, `shrunk`, `first 4`, …
        predicted_s: Middle, lower and upper end of the predicted latency, seconds.
        energy_lost: Mean square of what the outputs of its linears lose, as a share of the original's; `None` after
            training.
        val_loss: Loss on the examples that guided the search; `None` without data.
        test_loss: Loss on the examples that guided nothing; `None` without data.
        extrapolates: True if it lies outside the range of the predictor's training rows.
    """

    name: str
    config: Configuration
    predicted_s: tuple[float, float, float]
    energy_lost: float | None
    val_loss: float | None
    test_loss: float | None
    extrapolates: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "name": self.name,
            "sites": dict(self.config.ranks),
            **dict(zip(("predicted_s", "predicted_lower_s", "predicted_upper_s"), self.predicted_s, strict=True)),
            "energy_lost": self.energy_lost,
            "val_loss": self.val_loss,
            "test_loss": self.test_loss,
            "extrapolates": self.extrapolates,
        }


@dataclass(frozen=True)
class ShrinkReport:
    """Result of `shrink_adapter`.

    Args:
        folder: Folder of the adapter for PEFT.
        base: Name of the base model.
        measured_by: Options of `adaptare overhead` for the device and phase of the predictor.
        budget_s: Largest allowed latency, seconds.
        base_s: Latency of the base without adapter, seconds.
        level: Coverage probability of the predicted intervals.
        origin: Origin of the predicted latencies, see `FittedPredictor.origin`.
        cuts: The original, then the adapter that was written, then others for comparison.
        evaluations: Number of configurations that were evaluated.
        polish: Steps of training after the cut.
    """

    folder: Path
    base: str
    measured_by: tuple[str, ...]
    budget: str
    budget_s: float
    base_s: float
    level: float
    origin: str
    cuts: tuple[Cut, ...]
    evaluations: int
    polish: int
    exit_code: ExitCode = ExitCode.DONE

    @property
    def original(self) -> Cut:
        """The adapter before."""
        return self.cuts[0]

    @property
    def written(self) -> Cut:
        """The adapter in the folder."""
        return self.cuts[1]

    def sections(self) -> Iterator[Section]:
        """See `Report`."""
        columns: list[Column[Cut]] = [
            Column("", lambda cut: cut.name),
            Column("sites", lambda cut: str(len(cut.config.ranks)), 1),
            Column("ranks of how many linears", lambda cut: cut.config.describe(), 2, folds=True),
            Column(f"{self.origin} ms", lambda cut: milliseconds(cut.predicted_s[0])),
            Column(f"{self.level:.0%} interval", lambda cut: between(*cut.predicted_s[1:], milliseconds)),
            Column("energy kept", lambda cut: "" if cut.energy_lost is None else f"{1 - cut.energy_lost:.1%}", 1),
        ]
        if self.written.test_loss is not None:
            columns += [
                Column("loss", lambda cut: f"{cut.val_loss:.3f}"),
                Column("test loss", lambda cut: f"{cut.test_loss:.3f}"),
            ]
        base = f"{milliseconds(self.budget_s)} ms; base {milliseconds(self.base_s)} ms"
        yield Table(f"Budget {self.budget}: {base}", columns, self.cuts)
        if self.original.predicted_s[2] <= self.budget_s:
            yield Note("the original is predicted to meet this budget as it is; a smaller one would cut more")
        if self.written.extrapolates:
            yield Note("the result lies outside the profiled range of the predictor; its interval is not valid there")
        if self.written.test_loss is None:
            yield Note("no loss was computed, the most energy was kept; --data FILE searches by held-out loss instead")
        only = "only a measurement can say that a budget is met"
        words = ["adaptare", "overhead", self.base, str(self.folder), *self.measured_by]
        yield f"written: {self.folder}; {only}; next: {shlex.join(words)}"

    def to_json(self) -> dict[str, Any]:
        """See `Report`."""
        return {
            "folder": str(self.folder),
            "budget": self.budget,
            "budget_s": self.budget_s,
            "base_s": self.base_s,
            "origin": self.origin,
            "evaluations": self.evaluations,
            "polish": self.polish,
            "cuts": [cut.to_json() for cut in self.cuts],
        }
