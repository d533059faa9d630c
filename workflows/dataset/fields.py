"""Columns of a data set of measurements: types, units and valid values; the schema of its Parquet file."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, get_args

import pyarrow as pa

from adaptare.core.quantisation import QUANTISATIONS
from adaptare.profiler import Mode, Phase
from adaptare.profiler.store import Origin
from adaptare.profiler.workloads import AdapterKind

RANKS: Final = pa.list_(pa.struct([("site", pa.string()), ("rank", pa.int32())]))
WIDTHS: Final = pa.list_(pa.struct([("layer", pa.int32()), ("width", pa.int32())]))
VISITS: Final = pa.list_(pa.list_(pa.float64()))
NUMBERS: Final = pa.list_(pa.int32())
UNIT: Final = b"unit"


@dataclass(frozen=True)
class Field:
    """One column.

    Args:
        kind: Type in Parquet.
        meaning: Half a sentence for the card.
        unit: SI unit; empty for names and counts.
        least: Smallest valid number, also inside lists.
        known: Valid names; empty for any text.
        above: True if numbers must exceed `least`.
    """

    name: str
    kind: pa.DataType
    meaning: str
    unit: str = ""
    least: float = -math.inf
    known: tuple[str, ...] = ()
    above: bool = False

    def faults(self, value: Any) -> Iterator[str]:
        """Reasons why a value is invalid."""
        if value is None:
            yield "is missing"
        elif isinstance(value, list):
            yield from dict.fromkeys(fault for each in value for fault in self.faults(each))
        elif isinstance(value, dict):
            yield from (fault for each in value.values() for fault in self.faults(each))
        elif isinstance(value, str):
            if self.known and value not in self.known:
                yield f"must be one of {', '.join(self.known)}, not {value!r}"
        elif not math.isfinite(value):
            yield f"must be finite, not {value}"
        elif value < self.least or (self.above and value == self.least):
            bound = f"{self.least:g} {self.unit}".rstrip()
            yield f"must be {'above' if self.above else 'at least'} {bound}, not {value:g}"


def _seconds(name: str, meaning: str, kind: pa.DataType | None = None) -> Field:
    return Field(name, kind or pa.float64(), meaning, unit="s", least=0.0, above=True)


def _count(name: str, meaning: str, least: int = 0) -> Field:
    return Field(name, pa.int32(), meaning, least=least)


def _text(name: str, meaning: str, known: Callable[[], tuple[str, ...]] | None = None) -> Field:
    return Field(name, pa.string(), meaning, known=known() if known else ())


FIELDS: Final[tuple[Field, ...]] = (
    _text("id", "hash of all other columns"),
    _text("session", "measurements of one session share their rounds"),
    _text("taken_at", "start of the session, ISO 8601 in UTC"),
    _text("origin", "measured, or composed from models of few layers", lambda: get_args(Origin)),
    _text("device", "spelling of the device, without addresses and paths"),
    _text("hardware", "processor as the device names it"),
    _text("runtime", "library and version"),
    _count("threads", "threads inside one operator", 1),
    Field("options", pa.list_(pa.string()), "everything else that changes latency"),
    _text("model", "family and sizes of the base model"),
    _text("config", "its configuration for transformers, in JSON"),
    _count("linears", "linears that may carry an adapter", 1),
    _text("phase", "prefill: all tokens at once; decode: one token after cached ones", lambda: get_args(Phase)),
    _count("length", "tokens of prefill, or cached positions of decode"),
    _count("batch", "sequences per call", 1),
    _text("mode", "application of the adapter", lambda: get_args(Mode)),
    _text("graph", "cut: only sites with adapter take one; open: all sites do", lambda: ("cut", "open")),
    _text("quantisation", "of the base's weights", lambda: tuple(QUANTISATIONS)),
    _text("dtype", "of the adapter, and of a base that is not quantised"),
    _text("adapter", "lora or dora", lambda: get_args(AdapterKind)),
    Field("ranks", RANKS, "module path and rank of each linear with an adapter", least=0),
    Field("widths", WIDTHS, "layer and MLP width, where it differs from the base", least=0),
    Field("left_out", NUMBERS, "numbers of the layers that are left out", least=0),
    _seconds("latency_s", "seconds of a call, on the scale of reference_s"),
    _seconds("lower_s", "lower end of its 95 % interval"),
    _seconds("upper_s", "upper end of its 95 % interval"),
    _seconds("reference_s", "seconds of the base without adapter when the device was calibrated"),
    Field("overhead", pa.float64(), "latency over that of the interleaved base, minus one", least=-1, above=True),
    Field("overhead_lower", pa.float64(), "lower end of its 95 % interval", least=-1, above=True),
    Field("overhead_upper", pa.float64(), "upper end of its 95 % interval", least=-1, above=True),
    Field("opening", NUMBERS, "number of the load of the program, of each round", least=0),
    Field("round", NUMBERS, "number of the round in the session", least=0),
    _seconds("samples_s", "calls of each round", VISITS),
    _seconds("reference_samples_s", "calls of the base without adapter in the same rounds", VISITS),
    _text("stopped_by", "reason for which the measurement ended"),
    Field("resident_bytes", pa.int64(), "memory added by loading the program", unit="B"),
    Field("load_s", pa.float64(), "seconds to load the program", unit="s", least=0),
    _text("workload", "the workload in JSON; Workload.from_json rebuilds it with ModelShape.from_mapping of config"),
    _text("environment", "facts of the machine before and after, in JSON"),
)
SCHEMA: Final = pa.schema([pa.field(field.name, field.kind, metadata={UNIT: field.unit.encode()}) for field in FIELDS])
