"""Rows of a data set from measurements, without addresses, paths and other private facts."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from adaptare.core.codec import to_json
from adaptare.core.content_hash import canonical_json, content_hash
from adaptare.profiler import Measurement

Row = dict[str, Any]
# Facts that tell one boot of a machine from another.
PRIVATE: Final = ("boot",)
SEPARATORS: Final = r"[/\\]"


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
    transport = re.match(r"([a-z]+):(?://)?[^/:,=]+(?::\d+)?/", device)
    runtime = f"{transport[1]}/{device[transport.end() :]}" if transport else device
    name, colon, options = runtime.partition(":")
    return name + colon + ",".join(map(_without_path, options.split(",")))


def _without_path(option: str) -> str:
    name, equals, value = option.partition("=")
    return f"{name}={re.split(SEPARATORS, value)[-1]}" if equals else option


def _public(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _public(each) for name, each in value.items() if name not in PRIVATE}
    return value
