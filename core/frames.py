"""Results as pandas data frames."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

from adaptare.core.codec import to_json
from adaptare.core.errors import InputError
from adaptare.core.lazy_names import check_installed

if TYPE_CHECKING:
    import pandas


def frames(result: object) -> "dict[str, pandas.DataFrame]":
    """Every list of rows of a result as a data frame, by name.

    A nested value is a column of its own, such as `over_base.lower` for the lower end of an interval. Units are in
    names, as everywhere: `latency.middle` of rows is in seconds.

    Args:
        result: Result of a job, such as of `adaptare.overhead`; or a sequence of rows, whose frame is named `rows`.

    Raises:
        InputError: The result has no list of rows.
        MissingPackageError: pandas is not installed.
    """
    check_installed("pandas")
    import pandas

    tables = _tables(result)
    if not tables:
        raise InputError(f"{type(result).__name__} has no list of rows; give a result, or a list of its rows")
    return {name: pandas.json_normalize([to_json(row) for row in rows]) for name, rows in tables.items()}


def _tables(result: object) -> dict[str, Sequence[Any]]:
    """Sequences of dataclasses that are not empty, by name of the field; for mappings of them also by key."""
    if _is_rows(result):
        return {"rows": result}
    if not is_dataclass(result):
        return {}
    tables: dict[str, Sequence[Any]] = {}
    for field in fields(result):
        value = getattr(result, field.name)
        named = value if isinstance(value, Mapping) else {"": value}
        tables |= {f"{field.name}.{key}".rstrip("."): rows for key, rows in named.items() if _is_rows(rows)}
    return tables


def _is_rows(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, Sequence) and bool(value) and all(is_dataclass(row) for row in value)
