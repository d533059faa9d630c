"""Stored form of a measurement: JSON, in which shapes are represented by their hashes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from adaptare.core.codec import from_json, to_json
from adaptare.devices import DeviceInfo
from adaptare.profiler.store.measurement import Measurement, Origin, Visit
from adaptare.profiler.store.samples import Samples
from adaptare.profiler.workloads.shape import ModelShape
from adaptare.profiler.workloads.workload import Workload, partly_open

# Errors of reading a damaged row.
DAMAGE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
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


class Shapes(dict[str, ModelShape]):
    """Shapes by hash, each read from its stored text when it is first used.

    Another version of transformers may add settings, which would change the shape, so the text is kept.
    """

    def __init__(self, configs: Mapping[str, str]) -> None:
        super().__init__()
        self._configs = configs

    def __missing__(self, name: str) -> ModelShape:
        config = self._configs[name]
        self[name] = replace(ModelShape.from_mapping(json.loads(config)), config=config)
        return self[name]


def reason_of(error: Exception) -> str:
    """Message of an error, with its type if that is needed to understand it."""
    return f"{error} is missing" if isinstance(error, KeyError) else str(error) or type(error).__name__


@dataclass(frozen=True)
class Row:
    """A stored measurement, before its calibration, and the calibration that an earlier version stored with it."""

    measurement: Measurement
    reference_s: float | None


def read_row(text: str, shapes: Mapping[str, ModelShape]) -> Row | None:
    """The measurement in a stored text; `None` for one of an obsolete graph. Raises one of `DAMAGE` for other texts."""
    content = json.loads(text)
    if partly_open(content["workload"], shapes):
        return None
    return Row(measurement_from_json(content, shapes), content.get("reference_s"))


def measurement_from_json(content: Mapping[str, Any], shapes: Mapping[str, ModelShape]) -> Measurement:
    """Inverse of `measurement_to_json`, before its calibration; `shapes` maps hashes to shapes.

    Raises one of `DAMAGE` for other content.
    """

    def visits(rows: Sequence[Sequence[Any]]) -> tuple[Visit, ...]:
        return tuple(Visit(opening, number, touch, tuple(samples)) for opening, number, touch, samples in rows)

    if len(content["visits"]) != len(content["reference_visits"]):
        raise ValueError("the rounds of the candidate are not those of the reference")
    if content["origin"] not in get_args(Origin):
        raise ValueError(f"origin must be one of {', '.join(get_args(Origin))}, not {content['origin']!r}")
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
