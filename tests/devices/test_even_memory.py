"""Files whose stretches are not equally fast; how fast they are is told by a stand-in, because a test cannot choose."""

import itertools
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from adaptare.devices import even_memory

STRETCH = even_memory.STRETCH


@pytest.fixture
def file(tmp_path: Path) -> Path:
    written = tmp_path / "weights"
    written.write_bytes(np.arange(4 * STRETCH // 8, dtype=np.int64).tobytes() + b"tail")
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
    monkeypatch.setattr(even_memory, "_held", [])
    monkeypatch.setattr(even_memory, "_lies_in_large_pages", lambda descriptor, size: False)
    return found


@pytest.fixture
def touched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How much memory was touched before each reading; it is read at a speed of 10."""
    found: list[int] = []

    def noted(size: int) -> float:
        found.append(size)
        return 10.0

    monkeypatch.setattr(even_memory, "_touched", noted)
    return found


def told(monkeypatch: pytest.MonkeyPatch, *slow: Mapping[int, float]) -> None:
    """Speeds that measuring finds time after time, by number of the stretch; all others are as fast as they can be."""
    left = list(slow)

    def speeds(descriptor: int, size: int, starts: NDArray[np.int64]) -> NDArray[np.float64]:
        found = left.pop(0)
        return np.array([found.get(start // STRETCH, 10.0) for start in starts.tolist()])

    monkeypatch.setattr(even_memory, "_file_speeds", speeds)


def test_slow_stretches_are_read_into_other_memory_until_none_is(
    file: Path, dropped: list[tuple[int, int]], touched: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = file.stat().st_size
    told(monkeypatch, {0: 5, 3: 6}, {3: 5}, {})
    even_memory.read_evenly(file, whole)
    assert dropped == [(0, whole), (0, STRETCH), (3 * STRETCH, STRETCH), (3 * STRETCH, STRETCH)]
    assert touched == [whole, 2 * STRETCH, STRETCH], "before each reading"
    assert [len(each) // STRETCH for each in even_memory._held] == [3, 2], "that nobody may have"
    even_memory.release()
    assert not even_memory._held


def test_it_is_tried_a_few_times_and_with_a_share_of_what_is_free(
    file: Path, dropped: list[tuple[int, int]], touched: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    told(monkeypatch, *[{1: 5.0}] * even_memory.TRIES)
    even_memory.read_evenly(file, 2 * STRETCH)
    assert len(dropped) == even_memory.TRIES
    told(monkeypatch, {1: 5.0})
    monkeypatch.setattr(even_memory, "free_bytes", lambda: STRETCH)
    dropped.clear()
    even_memory.read_evenly(file, 2 * STRETCH)
    assert len(dropped) == 1


def test_where_no_memory_can_be_touched_nothing_counts_as_slow(
    file: Path, dropped: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(size: int) -> None:
        raise OSError("Cannot allocate memory")

    monkeypatch.setattr(even_memory, "_taken", refused)
    even_memory.read_evenly(file, 2 * STRETCH)
    assert len(dropped) == 1


def test_memory_that_cannot_be_held_is_done_without(
    file: Path, dropped: list[tuple[int, int]], touched: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(size: int) -> None:
        raise OSError("Cannot allocate memory")

    monkeypatch.setattr(even_memory, "_taken", refused)
    told(monkeypatch, {1: 5}, {})
    even_memory.read_evenly(file, 2 * STRETCH)
    assert dropped[1:] == [(STRETCH, STRETCH)]


def test_every_stretch_is_timed_and_the_file_is_as_it_was(file: Path) -> None:
    before, sizes = file.read_bytes(), file.stat().st_size
    with file.open("rb") as data:
        speeds = even_memory._file_speeds(data.fileno(), sizes, even_memory._stretches(sizes))
    assert len(speeds) == 4
    assert (speeds > 0).all()
    even_memory.read_evenly(file, sizes)
    assert file.read_bytes() == before


def test_touched_memory_says_how_fast_memory_is(monkeypatch: pytest.MonkeyPatch) -> None:
    # Each stretch is disturbed in one pass at most.
    calls = itertools.count()
    monkeypatch.setattr(even_memory, "_seconds", lambda words: 0.004 if next(calls) % 10 == 0 else 0.001)
    monkeypatch.setattr(even_memory, "free_bytes", lambda: 2**40)
    assert even_memory._touched(3 * STRETCH) == pytest.approx(STRETCH / 0.001)
    monkeypatch.setattr(even_memory, "_seconds", lambda words: words.nbytes / 8e9)
    assert even_memory._touched(3 * STRETCH) == pytest.approx(8e9)


@pytest.mark.parametrize("content", [b"1", b"1234567"])
def test_what_is_too_short_to_be_timed_is_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    even_memory.read_evenly(tmp_path / "file", len(content))
    assert (tmp_path / "file").read_bytes() == content


def test_what_lies_behind_is_not_read(
    file: Path, dropped: list[tuple[int, int]], touched: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    told(monkeypatch, {})
    even_memory.read_evenly(file, STRETCH)
    assert dropped == [(0, STRETCH)]


def test_a_file_has_to_be_as_large_as_what_is_read(file: Path) -> None:
    with pytest.raises(ValueError, match="greater than file size"):
        even_memory.read_evenly(file, file.stat().st_size + 1)


def test_a_file_that_lies_in_large_pages_stays_there_but_for_what_is_slow(
    file: Path, dropped: list[tuple[int, int]], touched: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(even_memory, "_lies_in_large_pages", lambda descriptor, size: True)
    monkeypatch.setattr(even_memory, "SAMPLE", STRETCH)
    told(monkeypatch, {2: 5}, {})
    even_memory.read_evenly(file, file.stat().st_size)
    assert dropped == [(2 * STRETCH, STRETCH)]
    assert touched == [STRETCH, STRETCH], "a sample, and before it is read"


@pytest.mark.skipif(not hasattr(os, "RWF_NOWAIT"), reason="this system does not tell what is in memory")
def test_the_system_tells_what_has_to_be_read_from_the_disk(file: Path) -> None:
    size = file.stat().st_size
    with file.open("rb") as data:
        assert even_memory._is_in_memory(data.fileno(), size)
        even_memory._drop(data.fileno(), 0, 0)
        if even_memory._is_in_memory(data.fileno(), size):
            pytest.skip("the file system of the temporary folder keeps every page in memory")
        data.read(size)
        assert even_memory._is_in_memory(data.fileno(), size)


@pytest.mark.parametrize(("kib", "large"), [(8192, True), (7168, False), (0, False)])
def test_memory_is_in_large_pages_where_the_system_says_so(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kib: int, large: bool
) -> None:
    mappings = [("0-1000", 8192), ("1000-ffffffffffffffff", kib), ("ffffffffffffffff-ffffffffffffffff", 8192)]
    lines = [f"{ends} r--s 00000000 fe:00 7 /a file\nRss: 8192 kB\nFilePmdMapped: {size} kB" for ends, size in mappings]
    (tmp_path / "smaps").write_text("\n".join(lines))
    monkeypatch.setattr(even_memory, "MAPPINGS", str(tmp_path / "smaps"))
    with file.open("rb") as data:
        assert even_memory._lies_in_large_pages(data.fileno(), file.stat().st_size) == large
        monkeypatch.setattr(even_memory, "MAPPINGS", str(tmp_path / "none"))
        assert not even_memory._lies_in_large_pages(data.fileno(), file.stat().st_size)
