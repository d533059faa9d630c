"""Latency of isolated blocks and head, with cold and hot caches, and their sum compared with the whole model."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from adaptare.core import DeviceError
from adaptare.core.exit_codes import ExitCode
from adaptare.core.table import Column, Section, Table
from adaptare.core.units import between, milliseconds, percent
from adaptare.profiler import Measurement, Programs, StoppingRule, Workload
from adaptare.profiler.measuring.parts import Parts, measure_parts
from adaptare.profiler.measuring.session import Session
from adaptare.profiler.workloads.workload import Caches
from adaptare.workflows.target import Target


@dataclass(frozen=True)
class PartRow:
    """One kind of block, the head, their sum, or the whole model.

    Args:
        layers: Decoder layers of this kind; 0 if not applicable.
        cold_s: Latency with cold caches; `hot_s` with hot ones.
        share: Time of all its layers with cold caches, relative to the whole model.
    """

    name: str
    layers: int
    cold_s: float
    hot_s: float | None = None
    share: float | None = None


COLUMNS: Final[tuple[Column[PartRow], ...]] = (
    Column("part", lambda row: row.name),
    Column("layers", lambda row: str(row.layers or "")),
    Column("cold ms", lambda row: milliseconds(row.cold_s)),
    Column("hot ms", lambda row: "" if row.hot_s is None else milliseconds(row.hot_s)),
    Column("cold, of the whole", lambda row: "" if row.share is None else f"{row.share:.1%}"),
)


@dataclass(frozen=True)
class PartsReport:
    """Result of `report_parts`: the whole model and its parts, by cache state."""

    model: str
    target: Target
    whole: Workload
    mode: str
    parts: Mapping[Caches, Parts]
    exit_code: ExitCode = ExitCode.DONE

    @property
    def rows(self) -> list[PartRow]:
        """Every kind of block, the head, their sum and the whole."""
        cold, hot = self.parts["cold"], self.parts["hot"]
        kinds = [_kind(block) if len(cold.blocks) > 1 else "block" for block, _ in cold.blocks]
        rows = [
            _row(name, count, own, other)
            for name, (own, count), (other, _) in zip(kinds, cold.blocks, hot.blocks, strict=True)
        ]
        rows += [_row("head", 1, cold.head, hot.head), _row("together", 0, cold.together, hot.together)]
        return [*rows, PartRow("the whole", 0, cold.head.reference_s)]

    def sections(self) -> Iterator[Section]:
        """See `Report`."""
        whole, sites = self.whole, len(self.whole.configuration.ranks)
        what = f"{sites} adapters, {self.mode}" if sites else "the base"
        yield Table(f"{self.model} on {self.target.name}, {whole.phase} {whole.length}: {what}", COLUMNS, self.rows)
        for caches, parts in self.parts.items():
            ratio, one = parts.together.ratio, parts.together.within_one_opening
            ends = between(ratio.lower - 1, ratio.upper - 1, percent, within_one_opening=one)
            yield f"{caches} parts together are {percent(ratio.middle - 1)} {ends} off the whole"

    def to_json(self) -> dict[str, Any]:
        """See `Report`."""
        return {
            "model": self.model,
            **self.target.place,
            "phase": self.whole.phase,
            "length": self.whole.length,
            "sites": len(self.whole.configuration.ranks),
            "mode": self.whole.mode,
            "whole_s": self.parts["cold"].head.reference_s,
            "parts": {caches: _summary(parts) for caches, parts in self.parts.items()},
        }


def report_parts(
    model: str, adapted: Workload, target: Target, *, stop: StoppingRule, seed: int, programs: Programs
) -> PartsReport:
    """Times a whole model, and its parts with cold and with hot caches, interleaved.

    Args:
        adapted: The model with its adapter; without adapted sites, the base is timed.
        stop: Ends openings (fresh loads of all programs) and groups.

    Raises:
        DeviceError: A part does not run.
    """
    whole = adapted if adapted.configuration.ranks else adapted.base
    session = Session(target.device, stop, seed, programs=programs)
    parts = measure_parts(whole, session, caches=("cold", "hot"))
    if failure := next((measured.together.failure for measured in parts.values() if measured.together.failure), ""):
        raise DeviceError(f"a part does not run on {target.name}: {failure}")
    return PartsReport(model, target, whole, adapted.mode, parts)


def _row(name: str, layers: int, cold: Measurement, hot: Measurement) -> PartRow:
    return PartRow(name, layers, cold.latency_s, hot.latency_s, (layers or 1) * cold.ratio.middle)


def _kind(block: Measurement) -> str:
    ranks = block.workload.configuration.by_path
    return f"block, {len(ranks)} sites up to r{max(ranks.values())}" if ranks else "block, no adapter"


def _summary(parts: Parts) -> dict[str, Any]:
    ratio = parts.together.ratio
    return {
        "blocks": [
            {"layers": count, "ranks": block.workload.configuration.by_path, **_seconds(block)}
            for block, count in parts.blocks
        ],
        "head": _seconds(parts.head),
        "together": _seconds(parts.together),
        "over_whole": {"middle": ratio.middle, "lower": ratio.lower, "upper": ratio.upper},
    }


def _seconds(measurement: Measurement) -> dict[str, float | bool]:
    return {
        "seconds": measurement.latency_s,
        "lower_s": measurement.lower_s,
        "upper_s": measurement.upper_s,
        "within_one_opening": measurement.within_one_opening,
    }
