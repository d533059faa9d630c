"""What a fault meets: a prepared folder, what its results are, and the steps of the commands that change it."""

import hashlib
import json
import os
import resource
import signal
import sqlite3.dbapi2
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from robustness_runs import TRAIN, Before, Outcome, copied, run

# Exit codes of a command that ended although a fault was injected.
CLEAR: Final = (0, 1, 2, 3, 4)
WRITES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES: Final = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate", "sqlite3.connect")
# Statements that change a store, and the name of their event.
STATEMENTS: Final = ("BEGIN IMMEDIATE", "CREATE", "INSERT", "UPDATE", "COMMIT")
STATEMENT: Final = "statement"
# Size of files on a disk that is full for SQLite: none of its pages fits, but an error on stderr does.
FULL_BYTES: Final = 4096
# Results of one file each: of those of a data set, the card is derived from the data.
FILES: Final = (
    "front.json",
    "verified.json",
    "costs.csv",
    *(f"{folder}/{file}" for folder in ("dataset", "both") for file in ("measurements.parquet", "README.md")),
)


@dataclass(frozen=True)
class Chooser:
    """Chooses cases.

    Args:
        only: Text in their names.
        done: Names of those that are left out.
        deadline: Time of `time.monotonic` after which none is begun.
    """

    only: str
    done: Set[str]
    deadline: float

    @property
    def late(self) -> bool:
        """True if no case is begun any more."""
        return time.monotonic() > self.deadline

    def wanted(self, name: str) -> bool:
        """True if a case is to run."""
        return self.only in name and name not in self.done and not self.late


@dataclass
class Found:
    """What went wrong, by kind."""

    faults: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    half: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)
    crashed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def judge(self, name: str, outcome: Outcome) -> None:
        """Notes an answer that is not clear."""
        if outcome.code == -signal.SIGKILL:
            return
        if outcome.traceback:
            self.crashed.append(f"{name}: {outcome.message}")
        elif outcome.code not in CLEAR or (outcome.code and not outcome.message):
            self.unclear.append(f"{name}: exit {outcome.code}, {outcome.message}")


class Steps:
    """Audit hook that counts the changes that a process makes to files in a folder, and acts at one of them.

    Args:
        folder: Changes elsewhere do not count.
        at: Number of the change; -1 for none.
        act: Called at that change, and at later ones.
    """

    def __init__(self, folder: Path, at: int = -1, act: Callable[[str], None] = lambda event: None) -> None:
        self._folder, self._at, self._act, self.count = f"{folder}{os.sep}", at, act, 0

    def install(self) -> None:
        """Begins to count."""
        connect = sqlite3.dbapi2.connect

        def traced(place: str, *words: Any, **options: Any) -> sqlite3.Connection:
            connection = connect(place, *words, **options)
            if self._inside(place):
                connection.set_trace_callback(self._statement)
            return connection

        sqlite3.dbapi2.connect = traced  # type: ignore[assignment]
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if _changes(event, arguments) and self._inside(arguments[0]):
            self._step(event)

    def _statement(self, text: str) -> None:
        if text.startswith(STATEMENTS):
            self._step(STATEMENT)

    def _step(self, event: str) -> None:
        self.count += 1
        if 0 <= self._at < self.count:
            self._act(event)

    def _inside(self, path: object) -> bool:
        try:
            return os.path.abspath(os.fsdecode(path)).startswith(self._folder)  # type: ignore[arg-type]
        except TypeError:  # a file descriptor
            return False


def _changes(event: str, arguments: tuple[Any, ...]) -> bool:
    if event == "open":
        _, mode, flags = arguments
        return bool(flags & WRITES) if mode is None else any(letter in str(mode) for letter in "wax+")
    return event in CHANGES


def kill(event: str) -> None:
    """Ends the process at once."""
    os.kill(os.getpid(), signal.SIGKILL)


def deny(number: int) -> Callable[[str], None]:
    """Refuses whatever needs space."""

    def refuse(event: str) -> None:
        if event == STATEMENT:
            limit(resource.RLIMIT_FSIZE, FULL_BYTES)
        if event in ("open", "os.mkdir", "os.link"):
            raise OSError(number, os.strerror(number))

    return refuse


def limit(kind: int, size: int) -> None:
    """Limits a resource of this process."""
    resource.setrlimit(kind, (size, resource.getrlimit(kind)[1]))


def at_request(number: int, act: Callable[[Any], object]) -> None:
    """Acts on the worker just before this process sends a request to any; the first has number 1."""
    from adaptare.devices.agent_worker import AgentWorker

    request, count = AgentWorker._request, [0]

    def counted(worker: Any, *words: Any, **content: Any) -> Any:
        count[0] += 1
        if count[0] == number:
            act(worker)
        return request(worker, *words, **content)

    AgentWorker._request = counted  # type: ignore[method-assign]


@dataclass
class Bench:
    """A prepared folder, and what its results are.

    Args:
        place: Folder of everything.
        chooser: Chooses the faults.
    """

    place: Path
    chooser: Chooser
    found: Found = field(default_factory=Found)

    @property
    def work(self) -> Path:
        return self.place / "work"

    @property
    def cache(self) -> Path:
        return self.place / "cache"

    def fresh(self) -> None:
        """Puts the prepared folder into place."""
        copied(self.place / "prepared", self.work)

    def run(self, words: tuple[str, ...], before: Before | None = None, limit_s: float = 60.0) -> Outcome:
        """Runs a command in it."""
        return run(words, self.work, cache=self.cache, before=before, limit_s=limit_s)

    def wanted(self, name: str) -> bool:
        """True if a fault is to be injected; counts it."""
        if not self.chooser.wanted(name):
            return False
        self.found.faults.append(name)
        return True

    def check(self, name: str, before: Mapping[str, str], after: Mapping[str, str] | None) -> None:
        """Compares results with those before and after a fault: each is one or the other."""
        rows = saved_rows(self.work / "adaptare.db")
        for number, content in saved_rows(self.place / "prepared" / "adaptare.db").items():
            if rows.get(number) != content:
                self.found.lost.append(f"{name}: measurement {number}")
        for result, digest in results(self.work).items():
            allowed = {before.get(result, ""), *([after.get(result, "")] if after is not None else [])}
            if digest not in allowed:
                self.found.half.append(f"{name}: {result}")
        for result in before:
            if not (self.work / result).exists():
                self.found.lost.append(f"{name}: {result}")


def saved_rows(file: Path) -> dict[int, str]:
    """Text of each measurement of a store, by number."""
    connection = sqlite3.connect(file)
    try:
        return dict(connection.execute("SELECT id, content FROM measurements").fetchall())
    finally:
        connection.close()


def results(folder: Path) -> dict[str, str]:
    """Hash of each result that commands leave: files that belong together, and whole folders."""
    found = {}
    for name in FILES:
        if (folder / name).exists():
            found[name] = _digest(iter([(folder / name).read_bytes()]))
    if (folder / "predictor.json").exists():
        found["predictor.json"] = _digest(iter(_predictor(folder)))
    record = folder / "new" / "training.json"
    if record.exists() and len(json.loads(record.read_bytes())["losses"]) == int(TRAIN[TRAIN.index("--steps") + 1]):
        found["new/training.json"] = _digest(iter([(folder / "new" / "super_adapter.safetensors").read_bytes()]))
    for file in (folder / "page.html", folder / "report.html", folder / "figure.svg", *folder.glob("figures/*.svg")):
        if file.exists():  # each has its date, so that no two are equal
            whole = file.read_bytes().rstrip().endswith((b"</html>", b"</svg>"))
            found[str(file.relative_to(folder))] = "whole" if whole else "broken"
    if (folder / "rescued.db").exists():
        found["rescued.db"] = _digest(map(str.encode, saved_rows(folder / "rescued.db").values()))
    for name in ("adapter", "merged", "smaller"):
        if (folder / name).exists():
            files = sorted(each for each in (folder / name).rglob("*") if each.is_file())
            found[name] = _digest(part for file in files for part in (file.name.encode(), file.read_bytes()))
    return found


def _predictor(folder: Path) -> list[bytes]:
    """Both files of a predictor, or one that stands for none."""
    text = (folder / "predictor.json").read_bytes()
    try:
        wanted = json.loads(text)["arrays_sha256"]
    except (ValueError, KeyError):
        return [b"broken"]
    for name in ("predictor.npz", ".predictor.npz.earlier"):
        arrays = (folder / name).read_bytes() if (folder / name).exists() else b""
        if hashlib.sha256(arrays).hexdigest() == wanted:
            return [text, arrays]
    return [b"broken"]


def _digest(parts: Iterator[bytes]) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part)
    return whole.hexdigest()
