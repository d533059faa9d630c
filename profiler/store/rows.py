"""Stored form of a measurement: JSON, in which shapes are represented by their hashes."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, get_type_hints

from adaptare.core import InputError
from adaptare.core.codec import from_json, to_json
from adaptare.profiler.store.measurement import Measurement
from adaptare.profiler.workloads.shape import ModelShape
from adaptare.profiler.workloads.workload import Workload, partly_open

# Errors of reading a damaged row.
DAMAGE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
# Stored fields with their types, and those that rows of earlier versions lack.
FIELDS = {name: kind for name, kind in get_type_hints(Measurement).items() if name != "reference_s"}
LATER = ("first_call_s", "recalibrates", "quantities", "first_reference_visits")


def measurement_to_json(measurement: Measurement) -> dict[str, Any]:
    """All fields but the calibration; shapes are represented by their hashes."""
    return {name: to_json(getattr(measurement, name)) for name in FIELDS}


class UninterpretedError(InputError):
    """A row may be whole, but needs a package or a version that is not installed here."""


@dataclass(frozen=True)
class StoredRow:
    """A row of a store.

    Args:
        columns: Name -> value, without the number of the row.
        configs: Hash -> text of the shapes that it names.
    """

    columns: Mapping[str, Any]
    configs: Mapping[str, str]


# Columns of a row.
COLUMNS = ("session", "device", "workload", "reference", "complete", "content")


def stored_row(measurement: Measurement) -> StoredRow:
    """The row of a measurement."""
    workload, reference = measurement.workload, measurement.reference
    values = (measurement.session, measurement.device.hash, workload.hash, reference.hash, measurement.complete)
    columns = dict(zip(COLUMNS, (*values, json.dumps(measurement_to_json(measurement))), strict=True))
    return StoredRow(columns, {shape.hash: shape.config for shape in (workload.shape, reference.shape)})


class Shapes(dict[str, ModelShape]):
    """Shapes by hash, each read from its stored text when it is first used.

    Another version of transformers may add settings, which would change the shape, so the text is kept.
    """

    def __init__(self, configs: Mapping[str, str]) -> None:
        super().__init__()
        self.configs = configs

    def __missing__(self, name: str) -> ModelShape:
        config = self.configs[name]
        if hashlib.sha256(config.encode()).hexdigest()[:16] != name:
            raise ValueError(f"the config of the shape {name} was changed")
        content = json.loads(config)
        if "model_type" not in content:
            raise ValueError("the config of its model has no model_type")
        try:
            self[name] = replace(ModelShape.from_mapping(content), config=config)
        except InputError as error:
            raise UninterpretedError(str(error)) from error
        return self[name]


def reason_of(error: Exception) -> str:
    """Message of an error, with its type if that is needed to understand it."""
    return f"{error} is missing" if isinstance(error, KeyError) else str(error) or type(error).__name__


def read_row(text: str, shapes: Mapping[str, ModelShape]) -> Measurement | None:
    """The measurement in a stored text; `None` for one of an obsolete graph.

    Raises:
        UninterpretedError: It names a model, or a kind of dimension, that this installation does not know or accept.
        ValueError: Or another one of `DAMAGE`: the text is damaged.
    """
    content = json.loads(text)
    return None if partly_open(content["workload"], shapes) else measurement_from_json(content, shapes)


def measurement_from_json(content: Mapping[str, Any], shapes: Mapping[str, ModelShape]) -> Measurement:
    """Inverse of `measurement_to_json`; `shapes` maps hashes to shapes.

    Its calibration is that which an earlier version stored with it, or else 0. Raises as `read_row`.
    """
    if len(content["visits"]) != len(content["reference_visits"]):
        raise ValueError("the rounds of the candidate are not those of the reference")
    values: dict[str, Any] = {"reference_s": content.get("reference_s") or 0.0}
    for name, kind in FIELDS.items():
        if kind is Workload:
            shape = shapes[content[name]["shape"]]
            try:
                values[name] = Workload.from_json(content[name], shape)
            except InputError as error:
                raise UninterpretedError(str(error)) from error
        elif name in content or name not in LATER:
            values[name] = from_json(kind, content[name], where=name)
    return Measurement(**values)
