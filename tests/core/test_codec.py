import enum
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.core.codec import from_json, to_json


class Colour(enum.Enum):
    RED = "red"


@dataclass(frozen=True)
class Point:
    x: float
    y: float = 0.0

    def __post_init__(self) -> None:
        if self.x < 0:
            raise ValueError(f"x must be at least 0, not {self.x}")


@dataclass(frozen=True)
class Version:
    """Has a text form of its own."""

    major: int
    minor: int

    def to_json(self) -> str:
        return f"{self.major}.{self.minor}"

    @classmethod
    def from_json(cls, content: str) -> "Version":
        major, minor = content.split(".")
        return cls(int(major), int(minor))


@dataclass(frozen=True)
class Everything:
    points: tuple[Point, ...]
    pair: tuple[str, float]
    mode: Literal["fast", "slow", 3]
    colour: Colour
    place: Path
    version: Version
    count: int | None = None
    either: int | str = 0
    by_name: Mapping[str, Point] = field(default_factory=dict)
    by_layer: Mapping[int, int] = field(default_factory=dict)
    words: Sequence[str] = ()
    numbers: list[int] = field(default_factory=list)
    known: frozenset[str] = frozenset()
    anything: Any = None


EVERYTHING = Everything(
    points=(Point(1.5, 2.0), Point(0.0)),
    pair=("a", 1.0),
    mode="slow",
    colour=Colour.RED,
    place=Path("a/b"),
    version=Version(1, 2),
    count=3,
    either="x",
    by_name={"p": Point(1.0)},
    by_layer={4: 512},
    words=("u", "v"),
    numbers=[1, 2],
    known=frozenset({"b", "a"}),
    anything={"k": [1, None]},
)


@dataclass(frozen=True, eq=False)
class Samples:
    seconds: NDArray[np.float64]
    rounds: NDArray[np.int64]


def test_what_is_written_as_text_is_read_equal() -> None:
    assert from_json(Everything, json.loads(json.dumps(to_json(EVERYTHING)))) == EVERYTHING


def test_keys_are_the_fields() -> None:
    assert to_json(Point(1.0)) == {"x": 1.0, "y": 0.0}
    assert to_json(EVERYTHING)["by_layer"] == {"4": 512}
    assert to_json(EVERYTHING)["version"] == "1.2"
    assert to_json(EVERYTHING)["known"] == ["a", "b"]


def test_arrays_keep_their_numbers_and_types() -> None:
    samples = Samples(np.array([0.1, 0.2]), np.array([1, 2]))
    again = from_json(Samples, json.loads(json.dumps(to_json(samples))))
    assert again.seconds.tolist() == [0.1, 0.2]
    assert [str(again.seconds.dtype), str(again.rounds.dtype)] == ["float64", "int64"]
    assert type(to_json(np.int64(3))) is int


def test_fields_with_a_default_may_be_missing_and_types_need_not_be_dataclasses() -> None:
    assert from_json(Point, {"x": 1}) == Point(1.0, 0.0)
    assert from_json(tuple[Point, ...], [{"x": 1}]) == (Point(1.0),)
    assert from_json(tuple[()], []) == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"points": [{"x": 1}, {"x": "1"}]}, r"points\[1\].x must be a number, not '1'"),
        ({"points": [{"x": 10**400}]}, r"points\[0\].x: int too large to convert to float"),
        ({"points": [{"x": True}]}, r"points\[0\].x must be a number, not True"),
        ({"points": [{"y": 1}]}, r"points\[0\].x is missing"),
        ({"points": [{"x": 1, "z": 1}]}, r"points\[0\].z is not known; known are x, y"),
        ({"points": [{"x": -1}]}, r"points\[0\]: x must be at least 0, not -1"),
        ({"points": {"x": 1}}, r"points must be a list, not {'x': 1}"),
        ({"pair": ["a"]}, r"pair must be a list of 2, not \['a'\]"),
        ({"mode": "quick"}, "mode must be one of fast, slow, 3, not 'quick'"),
        ({"colour": "blue"}, "colour must be one of red, not 'blue'"),
        ({"place": 3}, "place must be a text, not 3"),
        ({"version": "1"}, "version: not enough values"),
        ({"version": 1}, "version: 'int' object"),
        ({"count": 1.5}, "count must be a whole number, not 1.5"),
        ({"either": None}, "either must be a whole number, not None; or either must be a text, not None"),
        ({"by_name": {"p": 1}}, "by_name.p must be an object, not 1"),
        ({"by_layer": {"x": 1}}, "by_layer must be an object with whole numbers as keys, not 'x'"),
    ],
)
def test_malformed_content_is_refused_with_its_field(change: Mapping[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        from_json(Everything, {**to_json(EVERYTHING), **change})


def test_arrays_of_other_values_are_refused() -> None:
    for content in (["a"], 3, [[1.0], [1.0, 2.0]]):
        with pytest.raises(InputError, match="seconds must be a list of numbers"):
            from_json(Samples, {"seconds": content, "rounds": []})


def test_the_content_has_a_name_in_messages() -> None:
    with pytest.raises(InputError, match="the content must be an object, not 3"):
        from_json(Point, 3)
    with pytest.raises(InputError, match=r"front\.x is missing"):
        from_json(Point, {}, where="front")


def test_values_without_a_json_form_are_an_error_of_the_programmer() -> None:
    with pytest.raises(TypeError, match="complex has no JSON form; use a dataclass or define to_json"):
        to_json(1j)
    with pytest.raises(TypeError, match="keys of JSON objects"):
        to_json({1.5: 2})
