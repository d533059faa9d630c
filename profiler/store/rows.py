"""Stored form of a measurement: JSON, in which shapes are represented by their hashes."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_type_hints

from adaptare.core.codec import from_json, to_json
from adaptare.profiler.store.measurement import Measurement
from adaptare.profiler.workloads.shape import ModelShape
from adaptare.profiler.workloads.workload import Workload, partly_open

# Errors of reading a damaged row.
DAMAGE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
# Stored fields with their types, and those that rows of earlier versions lack.
FIELDS = {name: kind for name, kind in get_type_hints(Measurement).items() if name != "reference_s"}
LATER = ("first_call_s", "recalibrates", "quantities")


def measurement_to_json(measurement: Measurement) -> dict[str, Any]:
    """All fields but the calibration; shapes are represented by their hashes."""
    return {name: to_json(getattr(measurement, name)) for name in FIELDS}


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


def read_row(text: str, shapes: Mapping[str, ModelShape]) -> Measurement | None:
    """The measurement in a stored text; `None` for one of an obsolete graph. Raises one of `DAMAGE` for other texts."""
    content = json.loads(text)
    return None if partly_open(content["workload"], shapes) else measurement_from_json(content, shapes)


def measurement_from_json(content: Mapping[str, Any], shapes: Mapping[str, ModelShape]) -> Measurement:
    """Inverse of `measurement_to_json`; `shapes` maps hashes to shapes.

    Its calibration is that which an earlier version stored with it, or else 0. Raises one of `DAMAGE` for other
    content.
    """
    if len(content["visits"]) != len(content["reference_visits"]):
        raise ValueError("the rounds of the candidate are not those of the reference")
    values: dict[str, Any] = {"reference_s": content.get("reference_s") or 0.0}
    for name, kind in FIELDS.items():
        if kind is Workload:
            values[name] = Workload.from_json(content[name], shapes[content[name]["shape"]])
        elif name in content or name not in LATER:
            values[name] = from_json(kind, content[name], where=name)
    return Measurement(**values)
