"""Stored form of measurements: what was sampled, without what is derived, such as the calibration."""

from collections.abc import Mapping, Sequence
from typing import Any

from adaptare.core.codec import from_json, to_json
from adaptare.devices import DeviceInfo
from adaptare.profiler.store.measurement import Measurement, Visit
from adaptare.profiler.store.samples import Samples
from adaptare.profiler.workloads.shape import ModelShape
from adaptare.profiler.workloads.workload import Workload

# Fields that are stored as they are.
PLAIN = ("session", "stopped_by", "resident_bytes", "load_s", "failure", "taken_at", "origin")


def measurement_to_json(measurement: Measurement) -> dict[str, Any]:
    """All fields except the shapes, which are represented by their hashes."""

    def rows(visits: Sequence[Visit]) -> list[list[Any]]:
        return [[visit.opening, visit.round, visit.touch_s, list(visit.samples_s)] for visit in visits]

    return {
        "workload": measurement.workload.to_json(),
        "reference": measurement.reference.to_json(),
        "device": measurement.device.to_json(),
        "visits": rows(measurement.visits),
        "reference_visits": rows(measurement.reference_visits),
        "warmup_s": list(measurement.warmup_s),
        "first_call_s": measurement.first_call_s,
        "environment": dict(measurement.environment),
        "recalibrates": measurement.recalibrates,
        "quantities": to_json(measurement.quantities),
        **{name: getattr(measurement, name) for name in PLAIN},
    }


def measurement_from_json(content: Mapping[str, Any], shapes: Mapping[str, ModelShape]) -> Measurement:
    """Inverse of `measurement_to_json`, before its calibration; `shapes` maps hashes to shapes."""

    def visits(rows: Sequence[Sequence[Any]]) -> tuple[Visit, ...]:
        return tuple(Visit(opening, number, touch, tuple(samples)) for opening, number, touch, samples in rows)

    return Measurement(
        workload=Workload.from_json(content["workload"], shapes[content["workload"]["shape"]]),
        reference=Workload.from_json(content["reference"], shapes[content["reference"]["shape"]]),
        device=DeviceInfo.from_json(content["device"]),
        visits=visits(content["visits"]),
        reference_visits=visits(content["reference_visits"]),
        warmup_s=tuple(content["warmup_s"]),
        first_call_s=content.get("first_call_s", 0.0),
        environment=content["environment"],
        reference_s=0.0,
        recalibrates=content.get("recalibrates", False),
        quantities=from_json(dict[str, Samples], content.get("quantities", {}), where="quantities"),
        **{name: content[name] for name in PLAIN},
    )
