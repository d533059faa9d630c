"""Memory of the agent's own process, and the page cache behind its files."""

import ctypes
import mmap
import os
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adaptare.devices import Program, program_file
from adaptare.devices.agent import memory
from adaptare.devices.agent_worker import AgentWorker

OpenWorker = Callable[..., AgentWorker]
MakeProgram = Callable[..., Program]

PAGES = 64


@pytest.mark.parametrize("told", [memory.private_bytes, memory.peak_bytes, memory.mapped_file_bytes])
def test_a_system_that_tells_nothing_is_answered_with_0(
    monkeypatch: pytest.MonkeyPatch, told: Callable[[], int]
) -> None:
    def refuse(*arguments: object, **options: object) -> Any:
        raise FileNotFoundError

    monkeypatch.setattr(memory, "open", refuse, raising=False)
    assert told() == 0


def test_a_limit_of_memory_is_within_that_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, found: limits.append(found))
    for hard in (2**30, resource.RLIM_INFINITY):
        monkeypatch.setattr(resource, "getrlimit", lambda _, hard=hard: (hard, hard))
        memory.limit_memory(2**40)
    assert limits == [(2**30, 2**30), (2**40, resource.RLIM_INFINITY)]


@pytest.mark.parametrize(("access", "counted"), [(mmap.ACCESS_COPY, True), (mmap.ACCESS_READ, False)])
def test_a_mapped_file_is_counted_if_it_can_be_written_without_the_file(
    tmp_path: Path, access: int, counted: bool
) -> None:
    size = PAGES * mmap.PAGESIZE
    (tmp_path / "weights").write_bytes(bytes(size))
    before = memory.mapped_file_bytes()
    with (tmp_path / "weights").open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=access):
        assert memory.mapped_file_bytes() - before == size * counted


def cached_pages(file: Path) -> int:
    """Pages of a file in the page cache."""
    libc = ctypes.CDLL(None, use_errno=True)
    found = (ctypes.c_ubyte * PAGES)()
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
        place = (ctypes.c_char * len(mapped)).from_buffer(mapped)
        failed = libc.mincore(ctypes.c_void_p(ctypes.addressof(place)), ctypes.c_size_t(len(mapped)), found)
        del place
    assert not failed, os.strerror(ctypes.get_errno())
    return sum(page & 1 for page in found)


def written(file: Path) -> Path:
    file.write_bytes(os.urandom(PAGES * mmap.PAGESIZE))
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
        opened.read()
    return file


def test_forgotten_files_are_out_of_the_page_cache(
    open_worker: OpenWorker, make_program: MakeProgram, tmp_path: Path
) -> None:
    other = written(tmp_path / "other")
    with other.open("rb") as opened:
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if cached_pages(other):
        pytest.skip("this file system keeps its files in memory")
    weights = written(tmp_path / "weights")
    program = replace(make_program("constant", values=[1.0]), files=(program_file(weights),))
    with weights.open("rb") as opened:
        opened.read()
    assert cached_pages(weights) == PAGES
    assert open_worker().forget(program) is True
    assert cached_pages(weights) == 0


def test_a_program_without_files_is_not_forgotten(open_worker: OpenWorker, make_program: MakeProgram) -> None:
    assert open_worker().forget(make_program("constant", values=[1.0])) is False


def test_a_system_without_such_a_request_forgets_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fadvise")
    assert memory.forget(str(written(tmp_path / "weights"))) is False
