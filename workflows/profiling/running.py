"""Campaigns that run now: each describes itself in a file that is locked until its process ends, however it ends."""

import contextlib
import json
import math
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from filelock import BaseFileLock, FileLock, Timeout
from platformdirs import user_cache_path

from adaptare.core import InputError
from adaptare.core.codec import from_json, to_json
from adaptare.core.progress import time_left
from adaptare.core.strict_json import parse_json
from adaptare.profiler.analysis import LEAST_OPENINGS
from adaptare.profiler.measuring import Progress
from adaptare.profiler.store import url_of

# Time between two writes, which are made between rounds.
WRITTEN_EVERY_S: Final = 1.0
# Openings whose intervals are told.
LATEST: Final = 8


@dataclass(frozen=True)
class RunningCampaign:
    """State of a campaign.

    Args:
        store: Its store: an absolute path, or a URL without the password.
        device: Spelling of the device.
        title: Title of the progress display.
        planned: Number of workloads to measure.
        measured: Number of those whose measurements are in the store.
        share: Share that is done, counted in groups of workloads and in the time limit of the present one.
        doing: Present activity.
        half_widths: Half-width of the widest interval of the present group after each of its latest openings, once
            there are as many as an interval needs.
        started_s: Start, seconds since 1970.
    """

    store: str
    device: str
    title: str
    planned: int
    started_s: float
    measured: int = 0
    share: float = 0.0
    doing: str = "starting"
    half_widths: tuple[float, ...] = ()

    @property
    def time_left(self) -> str:
        """Estimated remaining time in words; empty at the beginning and at the end."""
        return time_left(time.time() - self.started_s, self.share)


class Announcement:
    """File of a running campaign. A campaign does not depend on it: a file that cannot be written is left out.

    Args:
        file: `None` if there is no place for it.
    """

    def __init__(self, file: Path | None, state: RunningCampaign) -> None:
        self._file, self._state, self._written_s = file, state, -math.inf
        self._at = -1, -1
        self.change()

    def round(self, progress: Progress, share: float, doing: str) -> None:
        """State after a round."""
        group, opening = self._at
        known = self._state.half_widths if progress.group == group else ()
        is_new = (progress.group, progress.opening) != (group, opening) and progress.opening >= LEAST_OPENINGS
        if is_new and math.isfinite(progress.half_width):
            known = (*known, progress.half_width)[-LATEST:]
        self._at = progress.group, progress.opening
        self._state = replace(self._state, share=share, doing=doing, half_widths=known)
        if time.monotonic() - self._written_s >= WRITTEN_EVERY_S:
            self.change()

    def change(self, **changed: Any) -> None:
        """Writes the state with these fields changed."""
        self._state = replace(self._state, **changed)
        self._written_s = time.monotonic()
        if self._file is None:
            return
        fresh = self._file.with_suffix(".part")
        with contextlib.suppress(OSError):  # not flushed to the disk, which would disturb the measurement
            fresh.write_text(json.dumps(to_json(self._state)), encoding="utf-8")
            fresh.replace(self._file)


@contextlib.contextmanager
def announced(state: RunningCampaign) -> Iterator[Announcement]:
    """The announcement of a campaign, until the end of the context or of the process."""
    with contextlib.ExitStack() as ending:
        file = None
        with contextlib.suppress(OSError, NotImplementedError):  # the latter: a file system without locks
            _folder().mkdir(parents=True, exist_ok=True)
            place = _folder() / f"{os.getpid()}-{uuid.uuid4().hex[:8]}.json"
            lock = _lock_of(place)
            lock.acquire(timeout=0)
            ending.callback(_remove, place, lock)
            file = place
        yield Announcement(file, state)


def running_campaigns(stores: Sequence[str]) -> list[RunningCampaign]:
    """Campaigns of this user on this machine that measure into some stores; the first to start comes first.

    Files that killed campaigns have left are removed.

    Args:
        stores: Stores as in `RunningCampaign`, and folders with stores.
    """
    found = []
    for file in _folder().glob("*.json"):
        with contextlib.suppress(OSError, NotImplementedError, ValueError, InputError):
            lock = _lock_of(file)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                found.append(from_json(RunningCampaign, parse_json(file.read_text(encoding="utf-8"))))
            else:
                _remove(file, lock)
    wanted = [each for each in found if not {each.store, os.path.dirname(each.store)}.isdisjoint(stores)]
    return sorted(wanted, key=lambda each: each.started_s)


def store_name(location: str) -> str:
    """Name of a store, or of a folder with stores, by which `running_campaigns` finds it."""
    return url_of(location).render_as_string() if "://" in location else os.path.abspath(location)


def _lock_of(file: Path) -> BaseFileLock:
    return FileLock(file.with_suffix(".lock"))


def _remove(file: Path, lock: BaseFileLock) -> None:
    """Removes the files of a campaign, while their lock is held, and releases it."""
    for suffix in (".json", ".part"):
        with contextlib.suppress(OSError):
            file.with_suffix(suffix).unlink(missing_ok=True)
    lock.release()
    with contextlib.suppress(OSError):
        Path(lock.lock_file).unlink(missing_ok=True)


def _folder() -> Path:
    return user_cache_path("adaptare") / "campaigns"
