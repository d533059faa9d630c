"""Report of a fit: its error on held-out adapters, compared with other regressors."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from adaptare.core.exit_codes import ExitCode
from adaptare.core.table import Column, Note, Section, Table
from adaptare.core.units import counted
from adaptare.predictor import FittedPredictor

COLUMNS: Final[tuple[Column[tuple[str, float]], ...]] = (
    Column("predictor", lambda row: row[0]),
    Column("mean absolute error, points of overhead (1 = 1 % of the base)", lambda row: f"{row[1]:.2f}"),
)


def error_sections(predictor: FittedPredictor) -> Iterator[Section]:
    """Errors of a predictor and of other regressors."""
    card = predictor.error_card
    source = f"{card.rows} rows of {counted(card.sessions, 'session')} and {counted(card.openings, 'opening')}"
    source += f", {card.composed} of them composed from stubs" * bool(card.composed)
    rows = [(f"chosen: {predictor.chosen}", card.mae_overhead_points), *card.baselines.items()]
    yield Table(f"Error on adapters held out of the fit ({source})", COLUMNS, rows)
    if predictor.reason:
        yield f"{predictor.chosen}: {predictor.reason}"
    upper = "unknown" if card.mape_upper is None else f"{card.mape_upper:.2f} %"
    correlation = "unknown" if card.kendall_tau is None else f"{card.kendall_tau:.2f}"
    yield (
        f"mean absolute error {card.mape:.2f} % of latency, 95 % upper bound {upper}; rank correlation {correlation}; "
        f"intervals of ±{card.half_width_points:.2f} points contain {card.coverage:.0%} of the held-out rows"
    )


@dataclass(frozen=True)
class FitReport:
    """Predictor written to files named `base`; `source` is the predictor the fit was transferred from."""

    predictor: FittedPredictor
    base: Path
    files: tuple[Path, ...]
    source: Path | None = None
    exit_code: ExitCode = ExitCode.DONE

    def sections(self) -> Iterator[Section]:
        """See `Report`."""
        yield from error_sections(self.predictor)
        if self.predictor.error_card.sessions == 1:
            yield Note(
                "all rows are of one session, so the intervals allow for the shift between sessions of other devices; "
                "profile again later, in another session, to learn that of this device"
            )
        if self.source and self.predictor.chosen != "transferred":
            yield Note(
                f"{self.source} did not lower the error on held-out adapters, so nothing of it is in this predictor"
            )
        for length, error in self.predictor.base.left_out.items():
            yield f"the base at length {length}, left out and taken from its neighbours, has an error of {error:+.1%}"
        written = " and ".join(map(str, self.files))
        yield f"written: {written}; next: adaptare predict {self.base} ADAPTER"

    def to_json(self) -> dict[str, Any]:
        """See `Report`."""
        predictor, template = self.predictor, self.predictor.template
        kind = ("quantisation", "dtype", "phase", "length", "mode")
        left_out = {str(length): error for length, error in predictor.base.left_out.items()}
        return {
            "predictor": str(self.base),
            "device": predictor.device.to_json(),
            **{name: getattr(template, name) for name in kind},
            "open": template.graph == "open",
            "lengths": list(predictor.lengths),
            "base_left_out": left_out,
            "chosen": predictor.chosen,
            "reason": predictor.reason,
            "source": predictor.source.to_json() if predictor.source else None,
            **asdict(predictor.error_card),
        }
