from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from adaptare.core import InputError
from adaptare.core.frames import frames


@dataclass(frozen=True)
class Ends:
    lower: float
    upper: float


@dataclass(frozen=True)
class Row:
    name: str
    overhead: Ends


@dataclass(frozen=True)
class Result:
    device: str
    rows: Sequence[Row]
    others: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    none: Sequence[Row] = ()


ROWS = [Row("r4", Ends(0.1, 0.2)), Row("r8", Ends(0.2, 0.3))]


def test_every_list_of_rows_is_a_frame_with_nested_values_in_columns() -> None:
    found = frames(Result("simulated", ROWS, {"second": ROWS[1:]}))
    assert list(found) == ["rows", "others.second"]
    assert list(found["rows"].columns) == ["name", "overhead.lower", "overhead.upper"]
    assert found["rows"]["overhead.upper"].tolist() == [0.2, 0.3]
    assert found["others.second"]["name"].tolist() == ["r8"]
    assert len(frames(ROWS)["rows"]) == 2


@pytest.mark.parametrize("result", [Result("simulated", []), 3])
def test_what_has_no_rows_is_refused(result: object) -> None:
    with pytest.raises(InputError, match="has no list of rows"):
        frames(result)
