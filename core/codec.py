"""Frozen dataclasses as plain JSON values and back, by the annotations of their fields."""

import enum
import types
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from pathlib import PurePath
from typing import Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from adaptare.core.errors import InputError

T = TypeVar("T")

_SHOWN: Final = 60  # characters of malformed content in messages
_SCALARS: Final = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def to_json(value: Any) -> Any:
    """Plain JSON values: objects, lists, texts, numbers, booleans and null.

    A class with a JSON form of its own defines `to_json()`, and `from_json(content)` for the way back. Numbers that are
    not finite stay as they are.

    Args:
        value: Dataclass, mapping, sequence, set, enum, path, NumPy array or number, or a plain value; may be nested.

    Raises:
        TypeError: A value has another type.
    """
    if value is None or type(value) in _SCALARS:
        return value
    if hasattr(value, "to_json"):
        return value.to_json()
    if isinstance(value, enum.Enum):
        return to_json(value.value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in _fields(type(value))}
    if isinstance(value, Mapping):
        return {_key(key): to_json(item) for key, item in value.items()}
    if isinstance(value, AbstractSet):
        return sorted(map(to_json, value))
    if isinstance(value, PurePath):
        return str(value)
    if hasattr(value, "tolist"):  # NumPy
        return value.tolist()
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [to_json(item) for item in value]
    for kind in (str, int, float):  # subclasses
        if isinstance(value, kind):
            return kind(value)
    raise TypeError(f"{type(value).__name__} has no JSON form; use a dataclass or define to_json")


def from_json(kind: type[T], content: Any, *, where: str = "") -> T:
    """The value of a type from what `to_json` made of it; fields that have a default may be missing.

    Args:
        kind: Dataclass, or any type that annotates its fields: `tuple[Row, ...]`, `Mapping[str, float]`, `int | None`.
        content: Plain JSON values.
        where: Name of the content in messages, such as `winners[0]`.

    Raises:
        InputError: The content has another form, or the constructor refuses it; names the field and what came.
    """
    value: T = _read(kind, content, where)
    return value


def _read(kind: Any, content: Any, where: str) -> Any:
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if kind in (Any, object):
        return content
    if hasattr(kind, "__supertype__"):  # NewType
        return _read(kind.__supertype__, content, where)
    if origin in (Union, types.UnionType):
        return _read_union(arguments, content, where)
    if origin is Literal:
        if (content, type(content)) not in [(known, type(known)) for known in arguments]:
            raise _refused(where, f"one of {', '.join(map(str, arguments))}", content)
        return content
    if kind in _SCALARS or kind is types.NoneType:
        return _read_scalar(kind, content, where)
    if origin.__name__ == "ndarray":
        return _read_array(arguments, content, where)
    if issubclass(origin, (tuple, list, AbstractSet, Mapping)) or origin in (Sequence,):
        return _read_container(origin, arguments, content, where)
    if hasattr(kind, "from_json"):
        return _constructed(kind.from_json, (content,), {}, where)
    if issubclass(kind, enum.Enum):
        values = [member.value for member in kind]
        if content not in values:
            raise _refused(where, f"one of {', '.join(map(str, values))}", content)
        return kind(content)
    if issubclass(kind, PurePath):
        return kind(_read_scalar(str, content, where))
    if is_dataclass(kind):
        return _read_dataclass(kind, content, where)
    raise TypeError(f"{kind} has no JSON form; use a dataclass or define from_json")


def _read_scalar(kind: type, content: Any, where: str) -> Any:
    if type(content) is kind:
        return content
    if kind is float and type(content) is int:
        return _constructed(float, (content,), {}, where)
    raise _refused(where, _SCALARS.get(kind, "null"), content)


def _read_union(kinds: Sequence[Any], content: Any, where: str) -> Any:
    others = [kind for kind in kinds if kind is not types.NoneType]
    if content is None and len(others) < len(kinds):
        return None
    if len(others) == 1:
        return _read(others[0], content, where)
    errors = []
    for kind in others:
        try:
            return _read(kind, content, where)
        except InputError as error:
            errors.append(str(error))
    raise InputError("; or ".join(dict.fromkeys(errors)))


def _read_array(arguments: Sequence[Any], content: Any, where: str) -> Any:
    import numpy as np

    kind = get_args(arguments[-1])  # of NDArray[np.float64]: shape, dtype[float64]
    try:
        return np.array(_checked(list, "a list of numbers", content, where), dtype=kind[0] if kind else np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise _refused(where, "a list of numbers", content) from error


def _read_container(origin: type, arguments: Sequence[Any], content: Any, where: str) -> Any:
    if issubclass(origin, Mapping):
        key_kind, kind = arguments or (str, Any)
        pairs = _checked(dict, "an object", content, where).items()
        return {_read_key(key_kind, key, where): _read(kind, item, _inside(where, key)) for key, item in pairs}
    items = _checked(list, "a list", content, where)
    kinds: Sequence[Any] = [(arguments or (Any,))[0]] * len(items)
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        kinds = [kind for kind in arguments if kind != ()]
        if len(kinds) != len(items):
            raise _refused(where, f"a list of {len(kinds)}", content)
    read = (_read(kind, item, f"{where}[{index}]") for index, (kind, item) in enumerate(zip(kinds, items, strict=True)))
    return list(read) if origin is list else (frozenset if issubclass(origin, AbstractSet) else tuple)(read)


def _read_dataclass(kind: Any, content: Any, where: str) -> Any:
    given = _checked(dict, "an object", content, where)
    known, hints = _fields(kind), _hints(kind)
    if unknown := sorted(given.keys() - {field.name for field in known}):
        raise InputError(
            f"{_inside(where, unknown[0])} is not known; known are {', '.join(field.name for field in known)}"
        )
    for field in known:
        if field.name not in given and field.default is MISSING and field.default_factory is MISSING:
            raise InputError(f"{_inside(where, field.name)} is missing")
    values = {name: _read(hints[name], item, _inside(where, name)) for name, item in given.items()}
    return _constructed(kind, (), values, where)


def _constructed(make: Any, arguments: Sequence[Any], values: Mapping[str, Any], where: str) -> Any:
    try:
        return make(*arguments, **values)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        missing = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{where}: {missing}" if where else missing) from error


def _checked(kind: type[T], words: str, content: Any, where: str) -> T:
    if not isinstance(content, kind):
        raise _refused(where, words, content)
    return content


def _key(key: Any) -> str:
    plain = to_json(key)
    if isinstance(plain, (str, int)) and not isinstance(plain, bool):
        return str(plain)
    raise TypeError(f"keys of JSON objects are texts or whole numbers, not {key!r}")


def _read_key(kind: Any, key: str, where: str) -> Any:
    if kind is int:
        if not key.removeprefix("-").isdecimal():
            raise _refused(where, "an object with whole numbers as keys", key)
        return int(key)
    return _read(kind, key, _inside(where, key))


def _inside(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _refused(where: str, words: str, content: Any) -> InputError:
    shown = repr(content)
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
    return InputError(f"{where or 'the content'} must be {words}, not {shown}")


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


@cache
def _fields(kind: type) -> tuple["Field[Any]", ...]:
    return tuple(field for field in fields(kind) if field.init)
