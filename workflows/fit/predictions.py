"""Report of predicted latency and memory of adapters."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from adaptare.core.exit_codes import ExitCode
from adaptare.core.table import Column, Note, Section, Table
from adaptare.core.units import between, megabytes, milliseconds, percent
from adaptare.predictor import FittedPredictor
from adaptare.profiler import Configuration
from adaptare.profiler.programs.builders import memory_bytes
from adaptare.profiler.workloads.workload import BYTES


@dataclass(frozen=True)
class PredictedRow:
    """Prediction for one adapter.

    Args:
        mean_s: Predicted latency, with an interval from `lower_s` to `upper_s`.
        memory_bytes: Weights, adapter and cache.
        adapter_bytes: Memory of the adapter alone.
        extrapolates: True if it lies outside the range of the training rows.
        within: Probability of meeting a budget; `None` without one.
    """

    adapter: str
    sites: int
    mean_s: float
    lower_s: float
    upper_s: float
    overhead: float
    memory_bytes: int
    adapter_bytes: int
    extrapolates: bool
    within: float | None


@dataclass(frozen=True)
class PredictionReport:
    """Result of `report_predictions`."""

    name: str
    predictor: FittedPredictor
    rows: tuple[PredictedRow, ...]
    budget: str
    exit_code: ExitCode = ExitCode.DONE

    def sections(self) -> Iterator[Section]:
        """See `Report`."""
        predictor = self.predictor
        columns: list[Column[PredictedRow]] = [
            Column("adapter", lambda row: row.adapter),
            Column("sites", lambda row: str(row.sites), 3),
            Column("ms", lambda row: milliseconds(row.mean_s)),
            Column(f"{predictor.level:.0%} interval", lambda row: between(row.lower_s, row.upper_s, milliseconds)),
            Column("overhead", lambda row: percent(row.overhead)),
            Column("memory MB", lambda row: megabytes(row.memory_bytes), 2),
            Column("outside the profiled range", lambda row: "yes" if row.extrapolates else "no", 1),
        ]
        if self.budget:
            columns.append(Column(self.budget, lambda row: "" if row.within is None else f"{row.within:.0%}"))
        base = f"{predictor.template.describe()}; base {milliseconds(predictor.base_value)} ms"
        yield Table(f"{predictor.origin.capitalize()} for {predictor.device.device}: {base}", columns, self.rows)
        yield Note(f"next: adaptare train MODEL -o FOLDER, then adaptare search FOLDER --predictor {self.name}")

    def to_json(self) -> dict[str, Any]:
        """See `Report`."""
        rows = [{name: value for name, value in asdict(row).items() if value is not None} for row in self.rows]
        return {
            "predictor": self.name,
            "device": self.predictor.device.device,
            "base_s": self.predictor.base_value,
            "origin": self.predictor.origin,
            "rows": rows,
        }


def report_predictions(
    name: str,
    predictor: FittedPredictor,
    adapters: Sequence[tuple[str, Configuration]],
    *,
    budget: str = "",
    limit_s: float | None = None,
) -> PredictionReport:
    """Predicts latency and memory of adapters.

    Args:
        name: Display name of the predictor.
        budget: As the user wrote it; empty without one.
        limit_s: Latency allowed by the budget; if given, the probability that each adapter meets it is reported.
    """
    template, configs = predictor.template, [config for _, config in adapters]
    predicted = predictor.predict_configs(configs)
    within = None if limit_s is None else predictor.probability_within(configs, limit_s)
    rows = tuple(
        PredictedRow(
            adapter=adapter,
            sites=len(config.ranks),
            mean_s=float(predicted.mean[index]),
            lower_s=float(predicted.lower[index]),
            upper_s=float(predicted.upper[index]),
            overhead=float(predicted.mean[index] / predictor.base_value - 1),
            memory_bytes=memory_bytes(template.with_configuration(config)),
            adapter_bytes=BYTES[template.dtype] * config.adapter_parameters(template.shape),
            extrapolates=bool(predicted.extrapolates[index]),
            within=None if within is None else float(within[index]),
        )
        for index, (adapter, config) in enumerate(adapters)
    )
    return PredictionReport(name, predictor, rows, budget)
