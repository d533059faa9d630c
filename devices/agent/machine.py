"""Raw facts about the agent's machine, which the host reads: text of system files, variables and counters."""

from __future__ import annotations

import contextlib
import glob
import itertools
import os
import platform
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def raw_facts(asked: Mapping[str, Any], root: str = "/") -> dict[str, Any]:
    """Facts that a host asked for.

    Args:
        asked: `files`: patterns of paths below the root; `file_bytes` and `total_bytes`: bounds on their text;
            `variables`: beginnings of names of environment variables; `packages`: names of Python packages.
        root: Folder with the files of the system.
    """
    prefixes = tuple(asked["variables"])
    return {
        "at_s": time.time(),
        "system": platform.system(),
        "release": platform.release(),
        "architecture": platform.machine(),
        # Linux has it in a file, and asks another process for this.
        "processor": "" if sys.platform == "linux" else platform.processor(),
        "python": platform.python_version(),
        "packages": _versions(asked["packages"]),
        "variables": {name: os.environ[name] for name in sorted(os.environ) if name.startswith(prefixes)},
        "processors": processors(),
        "logical_processors": os.cpu_count(),
        "memory_bytes": _configured("SC_PHYS_PAGES", sys.maxsize) * _configured("SC_PAGE_SIZE", 1),
        "ticks_s": _configured("SC_CLK_TCK", 100),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "switches": _switches(),
        "files": _texts(asked["files"], root, asked["file_bytes"], asked["total_bytes"]),
    }


def _texts(patterns: Iterable[str], root: str, file_bytes: int, total_bytes: int) -> dict[str, str]:
    """Path below the root -> beginning of the text, for all files that match and can be read."""
    texts: dict[str, str] = {}
    for pattern in patterns:
        for path in sorted(glob.glob(os.path.join(root, pattern))):
            if total_bytes > 0 and (content := _beginning(path, min(file_bytes, total_bytes))):
                texts[os.path.relpath(path, root)] = content.decode(errors="replace")
                total_bytes -= len(content)
    return texts


def _beginning(path: str, most_bytes: int) -> bytes:
    """First bytes of a file; none if it cannot be read."""
    try:
        with open(path, "rb") as opened:
            return opened.read(most_bytes)
    except OSError:
        return b""


def processors() -> list[int]:
    """Processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def restrict(chosen: Sequence[int]) -> None:
    """Restricts this process to the given processors, where supported."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, chosen)


def timer_step_s() -> float:
    """Smallest clock difference in 1,000 readings, seconds."""
    readings = [time.perf_counter() for _ in range(1000)]
    following = itertools.islice(readings, 1, None)
    steps = [later - earlier for earlier, later in zip(readings, following) if later > earlier]
    return min(steps, default=time.get_clock_info("perf_counter").resolution)


def _switches() -> dict[str, int] | None:
    """Number of context switches of this process, voluntary and involuntary."""
    try:
        import resource
    except ImportError:
        return None
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {"voluntary": used.ru_nvcsw, "involuntary": used.ru_nivcsw}


def _versions(packages: Iterable[str]) -> dict[str, str]:
    from importlib import metadata

    versions = {}
    for name in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def _configured(name: str, otherwise: int) -> int:
    """Configuration value of the system."""
    try:
        return os.sysconf(name)
    except (AttributeError, OSError, ValueError):
        return otherwise
