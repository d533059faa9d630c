"""A campaign that is killed at any moment goes on with the same command, as if nothing had happened."""

import json
import os
import select
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from adaptare.profiler import Store

MODEL, COUNT, KILLS = "tiny-random", 40, 10
# Half of this holds the base and one or two adapters, so that there are many groups.
FREE_BYTES = 1_000_000

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork and no SIGKILL"),
]


class Campaigns:
    """Starts campaigns in an empty folder, one at a time, and kills them."""

    def __init__(self, folder: Path, cache: Path, script: Path) -> None:
        self._words = ["profile", MODEL, "--device", f"simulated:free_bytes={FREE_BYTES}", "--cache", str(cache)]
        self._words += ["--count", str(COUNT), "--space", "sites", "--rank", "0,2,4"]
        self._server = subprocess.Popen(
            [sys.executable, str(script), MODEL, str(cache)],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,  # what is not read yet can be waited for
        )
        self._folder = folder
        self._process_id = 0

    def start(self, store: str) -> None:
        assert self._server.stdin
        self._server.stdin.write(json.dumps([*self._words, "--store", store]).encode() + b"\n")
        self._process_id = self._answer()

    def go_on(self, file: Path, *, until: int, then_s: float) -> bool:
        """Waits for so many rows, so that a campaign gets on however slow the machine is. Whether it has ended."""
        while rows(file) < until:
            if self._ends(within_s=0.01):
                return True
        return self._ends(within_s=then_s)

    def kill(self) -> None:
        os.kill(self._process_id, signal.SIGKILL)
        assert os.WTERMSIG(self._answer()) == signal.SIGKILL

    def finish(self) -> None:
        assert self._answer() == 0, (self._folder / "said.txt").read_text()

    def close(self) -> None:
        self._server.communicate()

    def _ends(self, *, within_s: float) -> bool:
        return bool(select.select([self._server.stdout], [], [], within_s)[0])

    def _answer(self) -> int:
        assert self._server.stdout
        return int(self._server.stdout.readline())


@pytest.fixture
def campaigns(tmp_path: Path, model_cache: Path, worker_modules: Path) -> Iterator[Campaigns]:
    made = Campaigns(tmp_path, model_cache, worker_modules / "campaign_server.py")
    yield made
    made.close()


def rows(file: Path) -> int:
    """Measurements in a store that somebody else may be writing to, or has not made yet."""
    if not file.exists():
        return 0
    connection = sqlite3.connect(f"file:{file}?mode=rw", uri=True)
    try:
        return int(connection.execute("SELECT count(*) FROM measurements").fetchone()[0])
    except sqlite3.OperationalError:
        return 0
    finally:
        connection.close()


def numbers(file: Path) -> dict[str, tuple[float, ...]]:
    """What is told of every workload. Fails if one is there twice, or not complete."""
    store = Store(file, create=False)
    measurements = store.measurements()
    store.close()
    assert all(each.complete for each in measurements)
    told = {
        each.workload.hash: (each.latency_s, each.lower_s, each.upper_s, each.overhead.middle, len(each.visits))
        for each in measurements
    }
    assert len(told) == len(measurements)
    return told


@pytest.mark.slow
def test_killed_10_times_it_has_every_row_once_and_the_same_numbers(campaigns: Campaigns, tmp_path: Path) -> None:
    campaigns.start("straight.db")
    start_s = time.monotonic()
    campaigns.finish()
    row_s = (time.monotonic() - start_s) / COUNT
    expected = numbers(tmp_path / "straight.db")
    assert len(expected) == COUNT

    rng = np.random.default_rng(0)
    files, kills, between = [tmp_path / "0.db"], 0, 0
    while kills < KILLS:
        before = rows(files[-1])
        campaigns.start(files[-1].name)
        if campaigns.go_on(files[-1], until=before + int(rng.integers(3)), then_s=rng.uniform(0, 2 * row_s)):
            campaigns.finish()
            files.append(tmp_path / f"{len(files)}.db")
            continue
        campaigns.kill()
        kills += 1
        between += 0 < rows(files[-1]) < COUNT
        assert rows(files[-1]) >= before
    campaigns.start(files[-1].name)
    campaigns.finish()
    assert between > KILLS // 2
    assert [numbers(file) for file in files] == [expected] * len(files)
