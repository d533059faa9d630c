"""Rows of a data set from measurements, without private facts; types, units and valid values of their columns."""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, get_args

import pyarrow as pa

from adaptare.core.codec import to_json
from adaptare.core.content_hash import canonical_json, content_hash
from adaptare.core.quantisation import QUANTISATIONS
from adaptare.profiler import Measurement, Mode, Phase
from adaptare.profiler.store import Origin
from adaptare.profiler.workloads import AdapterKind

RANKS: Final = pa.list_(pa.struct([("site", pa.string()), ("rank", pa.int32())]))
WIDTHS: Final = pa.list_(pa.struct([("layer", pa.int32()), ("width", pa.int32())]))
VISITS: Final = pa.list_(pa.list_(pa.float64()))
NUMBERS: Final = pa.list_(pa.int32())
UNIT: Final = b"unit"
Row = dict[str, Any]
# Facts that tell one boot of a machine from another.
PRIVATE: Final = ("boot",)
SEPARATORS: Final = r"[/\\]"


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


def row_of(measurement: Measurement) -> Row:
    """Row of a complete measurement of a whole model."""
    workload, configuration, device = measurement.workload, measurement.workload.configuration, measurement.device
    over_base = measurement.overhead
    row: Row = {
        "session": measurement.session,
        "taken_at": measurement.taken_at,
        "origin": measurement.origin,
        "device": public_spelling(device.device),
        "hardware": device.hardware,
        "runtime": device.runtime,
        "threads": device.threads,
        "options": [_without_path(option) for option in device.options],
        "model": workload.shape.describe(),
        "config": workload.shape.config,
        "linears": len(workload.shape.sites),
        "phase": workload.phase,
        "length": workload.length,
        "batch": workload.batch,
        "mode": workload.mode,
        "graph": workload.graph,
        "quantisation": workload.quantisation,
        "dtype": workload.dtype,
        "adapter": configuration.kind,
        "ranks": [{"site": path, "rank": rank} for path, rank in configuration.by_path.items()],
        "widths": [{"layer": layer, "width": width} for layer, width in configuration.by_layer.items()],
        "left_out": list(configuration.left_out),
        "latency_s": measurement.latency_s,
        "lower_s": measurement.lower_s,
        "upper_s": measurement.upper_s,
        "reference_s": measurement.reference_s,
        "overhead": over_base.middle,
        "overhead_lower": over_base.lower,
        "overhead_upper": over_base.upper,
        "opening": measurement.openings.tolist(),
        "round": [visit.round for visit in measurement.visits],
        "samples_s": [list(visit.samples_s) for visit in measurement.visits],
        "reference_samples_s": [list(visit.samples_s) for visit in measurement.reference_visits],
        "stopped_by": measurement.stopped_by,
        "resident_bytes": measurement.resident_bytes,
        "load_s": measurement.load_s,
        "workload": canonical_json(to_json(workload)),
        "environment": json.dumps(_public(measurement.environment), sort_keys=True, default=str),
    }
    return {"id": identity(row), **row}


def identity(row: Mapping[str, Any]) -> str:
    """Hash of all columns but `id`."""
    return content_hash({name: value for name, value in row.items() if name != "id"})


def distinct(rows: Iterable[Row]) -> list[Row]:
    """Rows with different content, in their order."""
    return list({row["id"]: row for row in rows}.values())


def public_spelling(device: str) -> str:
    """Spelling of a device with the kind of its transport instead of the address, and with names instead of paths."""
    transport = re.match(r"([a-z]+):(?://)?(?:[^/:,=]*\[[^\]]*\]|[^/:,=]+)(?::\d+)?/", device)
    runtime = f"{transport[1]}/{device[transport.end() :]}" if transport else device
    name, colon, options = runtime.partition(":")
    return name + colon + ",".join(map(_without_path, options.split(",")))


def _without_path(option: str) -> str:
    name, equals, value = option.partition("=")
    return f"{name}={re.split(SEPARATORS, value)[-1]}" if equals else option


def _public(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    known = {name: _public(each) for name, each in value.items() if name not in PRIVATE}
    if isinstance(variables := known.get("variables"), Mapping):
        known["variables"] = {name: re.sub(f"[^:;,=]*{SEPARATORS}", "", str(each)) for name, each in variables.items()}
    return known
