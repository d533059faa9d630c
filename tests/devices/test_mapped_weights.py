"""Weights beside a graph, which ONNX Runtime maps instead of reading."""

import ctypes
import mmap
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from adaptare.devices import Feed, Program, Work, canonical_json, ort_cpu

HEADER = '<ir_version: 8, opset_import: ["": 17]>'


def rows_of_a_table(folder: Path, rows: int) -> Program:
    """Takes rows out of a table of 4 KiB each in a file beside the graph."""
    graph = "g (int64[1] row) => (float[1, 1024] y) { y = Gather(table, row) }"
    model = onnx.parser.parse_model(f"{HEADER} {graph}")
    (folder / "table.data").write_bytes(bytes(4 * 1024 * rows))
    table = model.graph.initializer.add(name="table", data_type=onnx.TensorProto.FLOAT, dims=[rows, 1024])
    table.data_location = onnx.TensorProto.EXTERNAL
    table.external_data.add(key="location", value="table.data")
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    feed = Feed(
        "only", canonical_json({"inputs": {"row": {"dtype": "int64", "shape": [1], "constant": 1}}}), Work(1, 1, 1)
    )
    return Program("gather", str(folder / "model.onnx"), "{}", (feed,))


def test_weights_that_are_only_mapped_do_not_count_as_memory(tmp_path: Path) -> None:
    program = rows_of_a_table(tmp_path, 2**16)
    device = ort_cpu(threads=1, timeout_s=60, memory_bytes=700 * 2**20)
    with device.open() as worker:
        for _ in range(6):
            loaded = worker.load(program)
        assert len(worker.run(loaded.program_id, "only", 2)) == 2


def pages_in_memory(file: Path) -> NDArray[np.bool_]:
    """Which pages of a file the system holds."""
    libc = ctypes.CDLL(None, use_errno=True)
    with file.open("rb") as data, mmap.mmap(data.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ) as mapped:
        pages = np.frombuffer(mapped, np.uint8)
        found = np.zeros(-(-len(pages) // mmap.PAGESIZE), np.uint8)
        start, size = ctypes.c_void_p(pages.ctypes.data), ctypes.c_size_t(len(pages))
        assert libc.mincore(start, size, ctypes.c_void_p(found.ctypes.data)) == 0
        del pages
    return (found & 1).astype(np.bool_)


def forget(file: Path) -> None:
    """Lets the system drop the pages of a file, which it does if they are on the disk."""
    with file.open("rb") as data:
        os.fsync(data.fileno())
        os.posix_fadvise(data.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux which pages are in memory")
def test_a_worker_reads_all_weights_of_a_graph_and_no_others(tmp_path: Path) -> None:
    program = rows_of_a_table(tmp_path, 2**14)
    table, other = tmp_path / "table.data", tmp_path / "other.data"
    other.write_bytes(bytes(2**22))
    forget(other)
    forget(table)
    if pages_in_memory(table).any() or pages_in_memory(other).any():
        pytest.skip("the file system of the temporary folder keeps every page in memory")
    with ort_cpu(threads=1, timeout_s=60).open() as worker:
        worker.load(program)
        # By page faults only what was touched, and what the system reads ahead, would be there.
        assert pages_in_memory(table).all()
        assert not pages_in_memory(other).any()


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux which pages are in memory")
@pytest.mark.parametrize("mapped", [{}, {"table.data": 2**22}], ids=["copied", "a part"])
def test_only_what_calls_read_where_it_is_mapped_is_read_beforehand(tmp_path: Path, mapped: dict[str, int]) -> None:
    program = rows_of_a_table(tmp_path, 2**14)
    table = tmp_path / "table.data"
    forget(table)
    if pages_in_memory(table).any():
        pytest.skip("the file system of the temporary folder keeps every page in memory")
    with ort_cpu(threads=1, timeout_s=60).open() as worker:
        worker.load(replace(program, arguments=canonical_json({"mapped": mapped})))
        there = pages_in_memory(table)
        assert not there.all()
        assert there[: sum(mapped.values()) // mmap.PAGESIZE].all()
