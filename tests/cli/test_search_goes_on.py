"""A search that was interrupted, or that several processes share, ends with the same front."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adaptare.search.training import loss_changes, quality

SEARCH = ("search", "run", "--predictor", "predictor-decode", "--budget", "overhead=30%", "--evaluations", 12)


@pytest.fixture(scope="module")
def trained(
    commands_in: Callable[..., Any],
    model_cache: Path,
    write_data: Callable[[Path], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("searches")
    cache = ("--cache", model_cache)
    with commands_in(folder) as run:
        profile = ("profile", "tiny-random", "--device", "simulated", "--space", "sites", "--count", 16, *cache)
        assert run(*profile).code == 0
        assert run("fit", "--device", "simulated").code == 0
        train = ("train", "tiny-random", "--steps", 2, "--space", "sites", "-o", "run", "--held-out", 40)
        assert run(*train, "--data", write_data(folder), *cache).code == 0
    return folder


class Calls:
    """Counts what is computed, and ends it before some of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made, self.left = 0, float("inf")
        for owner, name in ((quality.CompletionNats, "_sums"), (loss_changes, "gate_gradients")):
            monkeypatch.setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, compute: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            self.made += 1
            return compute(*arguments, **named)

        return counted


def test_interrupted_three_times_it_ends_with_the_same_front_and_computes_nothing_twice(
    run_in_copy: Callable[..., Any], trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, calls = run_in_copy(trained), Calls(monkeypatch)
    assert run(*SEARCH, "-o", "straight.json").code == 0
    straight = calls.made
    Path("run/evaluations.jsonl").unlink()
    calls.made = 0
    for _ in range(3):
        calls.left = straight // 5
        assert run(*SEARCH, "-o", "front.json").code == 130
        assert not Path("front.json").exists()
    calls.left = float("inf")
    done = run(*SEARCH, "-o", "front.json")
    assert done.code == 0, done.err
    assert Path("front.json").read_bytes() == Path("straight.json").read_bytes()
    gradients_at_the_largest = 4  # are not kept, only what follows from them
    assert straight <= calls.made <= straight + gradients_at_the_largest
    calls.left = 0
    assert run(*SEARCH, "-o", "again.json").code == 0
    assert Path("again.json").read_bytes() == Path("straight.json").read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_killed_twice_it_ends_with_the_same_front(run_in_copy: Callable[..., Any], trained: Path) -> None:
    run, kept = run_in_copy(trained), Path("run/evaluations.jsonl")
    assert run(*SEARCH, "-o", "straight.json").code == 0
    total = len(kept.read_bytes().splitlines())
    kept.unlink()
    for number in (1, 2):
        words = [sys.executable, "-m", "adaptare", *map(str, SEARCH), "-o", "front.json"]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and (not kept.exists() or kept.read_bytes().count(b"\n") < number * total // 6):
            time.sleep(0.001)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert not Path("front.json").exists()
    before = kept.read_bytes().count(b"\n")
    done = run(*SEARCH, "-o", "front.json")
    assert done.code == 0, done.err
    assert Path("front.json").read_bytes() == Path("straight.json").read_bytes()
    assert kept.read_bytes().count(b"\n") - before < total  # what was kept was not computed again


def test_every_long_part_shows_its_progress(
    run_in_copy: Callable[..., Any], trained: Path, shares_of: Callable[[Any, str], list[int]]
) -> None:
    done = run_in_copy(trained)(*SEARCH)
    assert done.code == 0, done.err
    of_kinds, race = (
        set(re.findall(title, done.err))
        for title in (r"shrinking of \S+ by Fisher information", r"race of \d+ configurations")
    )
    assert of_kinds
    assert len(race) == 1
    for part in ("shrinking by Fisher information", *race, "random search"):
        shares = shares_of(done, part)
        assert len(shares) >= 8, part
        assert shares[-1] == 100, part
    for part in (*of_kinds, "finalists of the race", "baselines", "losses on test examples"):
        assert shares_of(done, part)[-1] == 100, part


def test_losses_in_bfloat16_are_others_and_noted(run_in_copy: Callable[..., Any], trained: Path) -> None:
    run, words = run_in_copy(trained), (*SEARCH, "--algorithm", "nsga2", "--json")
    exact, rounded = run(*words), run(*words, "--bf16")
    assert (exact.json["bf16"], rounded.json["bf16"]) == (False, True)
    for kind in ("val_loss", "test_loss"):
        pair = [{row["name"]: row[kind] for row in each.json["baselines"]}["uniform 4"] for each in (exact, rounded)]
        assert pair[0] != pair[1]
        assert pair[1] == pytest.approx(pair[0], rel=0.02)
    note = "losses are computed in bfloat16"
    assert [note in " ".join(each.err.split()) for each in (exact, rounded)] == [False, True]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["loky", "ray"])
def test_several_processes_find_the_same_front(
    run_in_copy: Callable[..., Any], trained: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    if backend == "ray":
        pytest.importorskip("ray", reason="needs the package ray")
    run, calls = run_in_copy(trained), Calls(monkeypatch)
    assert run(*SEARCH, "-o", "straight.json").code == 0
    alone = calls.made
    Path("run/evaluations.jsonl").unlink()
    calls.made = 0
    done = run(*SEARCH, "-o", "front.json", "--workers", 4 if backend == "loky" else 2, "--backend", backend)
    assert done.code == 0, done.err
    assert calls.made < alone
    assert Path("front.json").read_bytes() == Path("straight.json").read_bytes()


def test_an_unknown_backend_is_refused(run_in_copy: Callable[..., Any], trained: Path) -> None:
    refused = run_in_copy(trained)(*SEARCH, "--backend", "mpi")
    assert refused.code == 2
    assert "must be loky or ray, not 'mpi'" in " ".join(refused.err.split())
