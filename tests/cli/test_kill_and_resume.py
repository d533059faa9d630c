"""A campaign that is killed at any moment goes on with the same command, as if nothing had happened."""

import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from adaptare.profiler import Store

COUNT = 40
# Half of the memory holds the base and one or two adapters, so that there are many groups.
WORDS = ("profile", "tiny-random", "--device", "simulated:free_bytes=1000000", "--count", str(COUNT))
SPACE = ("--space", "sites", "--rank", "0,2,4", "--store")


def rows(file: Path) -> int:
    """Measurements in a store that somebody else may be writing to, or has not made yet."""
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=rw", uri=True)) as connection:
            return int(connection.execute("SELECT count(*) FROM measurements").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def numbers(file: Path) -> dict[str, tuple[float, ...]]:
    """Latency, interval, overhead and visits of every workload. Fails if one is there twice, or not complete."""
    with closing(Store(file, create=False)) as store:
        measurements = store.measurements()
    assert all(each.complete for each in measurements)
    told = {
        each.workload.hash: (each.latency_s, each.lower_s, each.upper_s, each.overhead.middle, len(each.visits))
        for each in measurements
    }
    assert len(told) == len(measurements)
    return told


@pytest.mark.slow
def test_killed_again_and_again_it_has_every_row_once_and_the_same_numbers(
    run: Callable[..., Any], model_cache: Path, tmp_path: Path
) -> None:
    words = (*WORDS, "--cache", str(model_cache), *SPACE)
    assert run(*words, "straight.db").code == 0
    expected = numbers(tmp_path / "straight.db")
    assert len(expected) == COUNT
    killed, between = tmp_path / "killed.db", 0
    for _ in range(4):
        before = rows(killed)
        command = [sys.executable, "-m", "adaptare", *words, killed.name]
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while rows(killed) <= before and process.poll() is None:
                time.sleep(1e-3)
            process.kill()
        between += before < rows(killed) < COUNT
    assert between
    assert run(*words, killed.name).code == 0
    assert numbers(killed) == expected
