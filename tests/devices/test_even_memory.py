"""Files whose stretches are not equally fast; how fast they are is told by a stand-in, because a test cannot choose."""

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from adaptare.devices import even_memory

STRETCH = even_memory.STRETCH


@pytest.fixture
def file(tmp_path: Path) -> Path:
    written = tmp_path / "weights"
    written.write_bytes(np.arange(3 * STRETCH // 8, dtype=np.int64).tobytes() + b"tail")
    return written


@pytest.fixture
def dropped(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Which parts of the file were given back to be read again."""
    found: list[tuple[int, int]] = []
    drop = even_memory._drop

    def noted(descriptor: int, start: int, length: int) -> None:
        found.append((start, length))
        drop(descriptor, start, length)

    monkeypatch.setattr(even_memory, "_drop", noted)
    monkeypatch.setattr(even_memory, "_fastest", [0.0])
    monkeypatch.setattr(even_memory, "_held", [])
    return found


def told(monkeypatch: pytest.MonkeyPatch, *speeds: list[float]) -> None:
    """What measuring says, time after time."""
    left = [np.array(each) for each in speeds]
    monkeypatch.setattr(even_memory, "_speeds", lambda descriptor, size: left.pop(0))


def test_slow_stretches_are_read_into_other_memory_until_none_is(
    file: Path, dropped: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    told(monkeypatch, [5, 5, 10, 10], [10, 10, 10, 6], [10, 10, 8, 10])
    even_memory.read_evenly(file)
    assert dropped == [(0, 3 * STRETCH + 4), (0, STRETCH), (STRETCH, STRETCH), (3 * STRETCH, STRETCH)]
    assert [len(each) // STRETCH for each in even_memory._held] == [2, 1], "that nobody may have"
    even_memory.release()
    assert not even_memory._held


def test_a_file_that_is_slow_throughout_is_known_by_others(
    file: Path, dropped: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    told(monkeypatch, [10, 10], [5, 5], [10, 10])
    for _ in range(2):
        even_memory.read_evenly(file)
    assert dropped[2:] == [(0, STRETCH), (STRETCH, STRETCH)]


def test_it_is_tried_a_few_times_and_with_a_share_of_what_is_free(
    file: Path, dropped: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = [2 ** (even_memory.TRIES - number) for number in range(even_memory.TRIES)]
    told(monkeypatch, *[[10.0] * 20 + [5.0] * each for each in slow])
    even_memory.read_evenly(file)
    assert len(dropped) == 1 + sum(slow[:-1]), "once whole, and what is slow after each reading but the last"
    told(monkeypatch, [10.0, 5.0])
    monkeypatch.setattr(even_memory, "free_bytes", lambda: STRETCH)
    dropped.clear()
    even_memory.read_evenly(file)
    assert len(dropped) == 1


def test_where_most_of_it_stays_slow_it_is_left(
    file: Path, dropped: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    told(monkeypatch, [10.0, 5.0, 5.0], [10.0, 5.0, 5.0])
    even_memory.read_evenly(file)
    assert len(dropped) == 3


def test_every_stretch_is_measured_and_the_file_is_as_it_was(file: Path) -> None:
    before = file.read_bytes()
    with file.open("rb") as data:
        speeds: NDArray[np.float64] = even_memory._speeds(data.fileno(), os.fstat(data.fileno()).st_size)
    assert len(speeds) == 3
    assert (speeds > 0).all()
    even_memory.read_evenly(file)
    assert file.read_bytes() == before


@pytest.mark.parametrize("content", [b"1", b"1234567"])
def test_what_is_too_short_to_be_timed_is_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    even_memory.read_evenly(tmp_path / "file")


def test_an_empty_file_cannot_be_mapped(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ValueError, match="empty"):
        even_memory.read_evenly(tmp_path / "file")
