"""Programs that a device can load, their inputs, and their files, identified by content hash."""

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from adaptare.core.content_hash import content_hash
from adaptare.core.whole_file import write_whole

MOST_COPIES = 256
# Above this size, hashing takes longer than loading, so the digest is cached next to the file.
LARGE_BYTES = 16 * 2**20
SUFFIX = ".sha256"


@dataclass(frozen=True)
class Work:
    """Hardware work of one program call; input of the closed form behind every latency model.

    Args:
        launches: Kernels (operator calls) issued.
        moved_bytes: Bytes of weights and cache read or written.
        flops: Floating-point operations, a multiply-add counted as two.
    """

    launches: int
    moved_bytes: int
    flops: int

    def __add__(self, other: "Work") -> "Work":
        return Work(self.launches + other.launches, self.moved_bytes + other.moved_bytes, self.flops + other.flops)

    def __mul__(self, times: int) -> "Work":
        return Work(self.launches * times, self.moved_bytes * times, self.flops * times)


@dataclass(frozen=True)
class Feed:
    """One set of inputs for a loaded program, specified so that the worker can create it.

    Args:
        arguments: Canonical JSON, passed to the program's `bind`.
        work: Hardware work of one call with these inputs.
    """

    name: str
    arguments: str
    work: Work


@dataclass(frozen=True)
class ProgramFile:
    """A file that a program needs on the device.

    Args:
        name: File name on the device, in one folder with the program's other files.
        digest: SHA-256 of the content, 64 hex digits.
        path: Path on the host, from which the transport transfers it.
    """

    name: str
    digest: str
    path: Path = field(compare=False)


@dataclass(frozen=True)
class Program:
    """A program that a worker can load.

    Args:
        name: Display name; not part of the hash.
        source: `module:factory`, or the name of the main file.
        arguments: Canonical JSON, passed to the factory.
        weight_bytes: Expected increase of the worker's resident memory by loading.
        moved_bytes: Bytes moved by one call without adapter, if one of the next two is given.
        others_bytes: Bytes moved by the rest of its model between two calls. Enough copies are loaded and called in
            turn, up to a limit, for the others to move as much, or to fill the processor's caches twice. 0 = one copy,
            which finds its weights in the caches.
        between_bytes: For a stub, bytes moved by the missing rest of its model between two calls. This much other
            memory is read before each call, unless that and the stub fill the processor's caches twice.
    """

    name: str = field(compare=False)
    source: str
    arguments: str
    feeds: tuple[Feed, ...]
    files: tuple[ProgramFile, ...] = ()
    weight_bytes: int = field(default=0, compare=False)
    moved_bytes: int = 0
    others_bytes: int = 0
    between_bytes: int = 0

    @property
    def stands_for(self) -> float:
        """Ratio of the bytes moved by the whole model to those of this stub of it; 1 for other programs."""
        return (self.moved_bytes + self.between_bytes) / self.moved_bytes if self.between_bytes else 1.0

    @staticmethod
    def copies_in_turn(moved_bytes: int, others_bytes: int, cache_bytes: int) -> int:
        """Number of copies such that calling them in turn leaves each the cache state of a call within its model.

        Args:
            moved_bytes: Bytes moved by one call.
            others_bytes: Bytes moved by the rest of the model between two calls; twice the cache size evicts all.
            cache_bytes: Size of the last-level caches.
        """
        return min(MOST_COPIES, 1 + -(-min(2 * cache_bytes, others_bytes) // max(1, moved_bytes)))

    @property
    def hash(self) -> str:
        """Identifies the program on the device: 16 hex digits of SHA-256 over source, arguments, feeds and files."""
        feeds = [[feed.name, feed.arguments] for feed in self.feeds]
        files = [[file.name, file.digest] for file in self.files]
        cold = ["cold"] if self.others_bytes else []
        return content_hash([self.source, self.arguments, feeds, *([files] if files else []), *cold])


def program_file(path: Path, *, keep: bool = True) -> ProgramFile:
    """A file with its content hash, which `keep` caches next to large files until they change. Raises `OSError`."""
    return ProgramFile(path.name, _digest(path) if keep else hashed(path), path)


def _digest(path: Path) -> str:
    state = path.stat()
    if state.st_size < LARGE_BYTES:
        return hashed(path)
    kept, identity = path.with_name(path.name + SUFFIX), [state.st_size, state.st_mtime_ns, state.st_ino]
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads(kept.read_text(encoding="utf-8"))
        if content["of"] == identity:
            os.utime(kept)  # caches evict the least recently used files first
            return str(content["sha256"])
    digest = hashed(path)
    with contextlib.suppress(OSError):  # a read-only cache stores nothing
        write_whole(kept, json.dumps({"of": identity, "sha256": digest}))
    return digest


def hashed(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits. Raises `OSError`."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
