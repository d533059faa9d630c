"""Commands in processes of their own, which have imported everything already, and the files that they begin with."""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LIMIT_S = 60.0
Before = Callable[[], Callable[[], object] | None]
# The shortest form of each step, on a model of two small layers and a device that computes its times.
MODEL, DEVICE = "tiny-random", "simulated"
PROFILE = ("profile", MODEL, "--device", DEVICE, "--count", "14", "--openings", "2")
TRAIN = ("train", MODEL, "-o", "run", "--steps", "4", "--data", "data.jsonl", "--held-out", "12", "--max-tokens", "16")
SEARCH = ("search", "run", "--predictor", "predictor", "--budget", "overhead=30%", "--evaluations", "6")
SEARCH = (*SEARCH, "--algorithm", "random", "--winners", "2")
VERIFY = ("verify", "front.json", "--openings", "2", "--repeats", "1")
OVERHEAD = ("overhead", MODEL, "adapter", "--device", DEVICE, "--openings", "2", "--report", "page.html")
OVERHEAD = (*OVERHEAD, "--figure", "figure.svg")
SHRINK = ("shrink", "adapter", "--base", MODEL, "--predictor", "predictor", "--budget", "overhead=30%", "-o", "smaller")
DATASET = ("dataset", "export", "adaptare.db", "-o", "dataset", "--cost-table", "costs.csv")
MERGE = ("dataset", "merge", "dataset", "-o", "both")
REPORT = ("report", "adaptare.db", "front.json", "-o", "report.html", "--svg", "figures")
PREPARATION = (
    PROFILE,
    ("fit", "--device", DEVICE, "-o", "predictor"),
    TRAIN,
    (*SEARCH, "-o", "front.json"),
    ("export", "run", "--choice", "maximal", "--to", "peft", "-o", "adapter"),
    SHRINK,
    OVERHEAD,
    DATASET,
    MERGE,
    REPORT,
)


@dataclass(frozen=True)
class Outcome:
    """End of a command.

    Args:
        code: Exit code; minus the signal that ended it.
        out: Its stdout.
        err: Its stderr.
    """

    code: int
    out: str
    err: str

    @property
    def traceback(self) -> bool:
        """True if the program failed instead of answering."""
        return "Traceback (most recent call last)" in self.err or "this is a fault of adaptare" in self.err

    @property
    def message(self) -> str:
        """The last lines of stderr, where an error is."""
        return "\n".join(self.err.strip().splitlines()[-8:])


def import_everything() -> None:
    """Imports what commands need, so that processes that are forked from this one begin at once."""
    import matplotlib.pyplot  # noqa: F401
    import peft  # noqa: F401
    import plotly.graph_objects  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    import torch
    import transformers  # noqa: F401

    import adaptare.app
    import adaptare.search.training.train
    import adaptare.workflows.exporting
    import adaptare.workflows.tuning  # noqa: F401

    torch.set_num_threads(1)


def run(
    words: tuple[str, ...],
    folder: Path,
    *,
    cache: Path,
    before: Before | None = None,
    limit_s: float = LIMIT_S,
) -> Outcome:
    """Runs a command in a folder.

    Args:
        words: The command line.
        folder: Working folder.
        cache: The user's cache folder.
        before: Called in the new process before the command; injects a fault. May return what is called after it.
        limit_s: Seconds after which it is killed.
    """
    files = [folder.with_name(f"{folder.name}.{name}") for name in ("out", "err")]
    process = os.fork()
    if not process:
        _become(words, folder, files, cache, before)
    code = _wait(process, limit_s)
    out, err = (file.read_text(encoding="utf-8", errors="replace") for file in files)
    return Outcome(code, out, err)


def start(words: tuple[str, ...], folder: Path, *, cache: Path, name: str) -> int:
    """Starts a command in a folder; returns its process."""
    process = os.fork()
    if not process:
        _become(words, folder, [folder.with_name(f"{folder.name}.{name}.{end}") for end in ("out", "err")], cache, None)
    return process


def _wait(process: int, limit_s: float) -> int:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return -signal.SIGALRM


def _become(words: tuple[str, ...], folder: Path, files: list[Path], cache: Path, before: Before | None) -> None:
    code = 70
    try:
        os.chdir(folder)
        for number, file in enumerate(files, 1):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        os.environ |= {"XDG_CACHE_HOME": str(cache), "COLUMNS": "200", "NO_COLOR": "1"}
        sys.argv = ["adaptare", *words]
        from adaptare.entry import run as answer

        after = before() if before else None
        try:
            code = answer()
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except KeyboardInterrupt:
            code = 130
        if after:
            after()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        import traceback

        code = 70
        with contextlib.suppress(OSError):
            traceback.print_exc()
            sys.stderr.flush()
    finally:
        os._exit(code)  # this process must not go on as a second one of its parent


def prepare(folder: Path, *, cache: Path) -> None:
    """Fills a folder with the results of every command that writes some."""
    folder.mkdir(parents=True)
    rows = [{"prompt": f"{a}+{b}", "completion": str(a + b)} for a in range(12) for b in range(8)]
    (folder / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "space.yaml").write_text(SPACE)
    (folder / "ranks.json").write_text('{"*.q_proj": 8, "*.0.mlp.up_proj": 4}')
    (folder / "binary.bin").write_bytes(bytes(range(256)) * 40)
    (folder / "empty").write_bytes(b"")
    for words in PREPARATION:
        outcome = run(words, folder, cache=cache)
        if outcome.code:
            raise SystemExit(f"{' '.join(words)} ended with {outcome.code}: {outcome.message}")
    with contextlib.closing(sqlite3.connect(folder / "adaptare.db")) as store:  # or a log beside it holds the pages
        store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        store.execute("PRAGMA journal_mode = DELETE")
    shutil.copy(cache / "adaptare" / MODEL / "config.json", folder / "config.json")


SPACE = """\
name: mine
groups:
  - sites: "*.q_proj"
    ranks: [0, 4, 8]
"""


def copied(prepared: Path, folder: Path) -> None:
    """A copy of the prepared folder, without times of its files."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(prepared, folder, copy_function=shutil.copy)
