"""Values in a file that outlives an interruption."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from adaptare.core import StorageError
from adaptare.search.training.remembered import Remembered


def computed(value: float) -> NDArray[np.float64]:
    return np.array([[value, np.nan], [1 / 3, -0.0]])


def never() -> NDArray[np.float64]:
    raise AssertionError("computed again")


def test_a_value_is_computed_once_and_read_exactly_by_the_next(tmp_path: Path) -> None:
    file = tmp_path / "values.jsonl"
    first = Remembered(file, of="weights")(["a", [1, 2]], lambda: computed(0.1))
    again = Remembered(file, of="weights")(["a", [1, 2]], never)
    np.testing.assert_array_equal(again, first)
    assert Remembered(file, of="weights").find(["a", [1, 3]]) is None


def test_values_of_other_weights_are_not_used(tmp_path: Path) -> None:
    file = tmp_path / "values.jsonl"
    Remembered(file, of="weights").keep("a", computed(0.1))
    assert Remembered(file, of="others").find("a") is None


def test_what_else_the_weights_determine_is_kept_apart_in_the_same_file(tmp_path: Path) -> None:
    file = tmp_path / "values.jsonl"
    merged = Remembered(file, of="weights").part("merged")
    merged.keep("a", computed(0.1))
    again = Remembered(file, of="weights")
    np.testing.assert_array_equal(again.part("merged")("a", never), computed(0.1))
    assert again.find("a") is None
    assert again.part("requantised").find("a") is None
    assert Remembered(file, of="others").part("merged").find("a") is None


def test_a_line_that_was_cut_off_costs_that_value_alone(tmp_path: Path) -> None:
    file = tmp_path / "values.jsonl"
    for key in ("a", "b"):
        Remembered(file).keep(key, computed(0.1))
    file.write_bytes(file.read_bytes()[:-9])
    cut = Remembered(file)
    assert cut.find("a") is not None
    assert cut.find("b") is None
    cut.keep("c", computed(0.2))
    assert {key for key in "abc" if Remembered(file).find(key) is not None} == {"a", "c"}


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written: No such file"):
        Remembered(tmp_path / "absent" / "values.jsonl").keep("a", computed(0.1))
    Remembered().keep("a", computed(0.1))
