"""What a device can load, and the inputs it is then timed with."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, Union

Json: TypeAlias = Union[bool, int, float, str, Sequence["Json"], Mapping[str, "Json"], None]  # noqa: UP007 (strings)


def canonical_json(value: Json) -> str:
    """One text per value: sorted keys, no spaces, so that equal values hash equally."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True)
class Work:
    """What one call of a program asks of the hardware; the closed form behind every latency model.

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
    """One set of inputs for a loaded program, described so that the worker can make it.

    Args:
        name: Unique within its program.
        arguments: Canonical JSON, given to the program's `bind`.
        work: What one call with these inputs asks of the hardware.
    """

    name: str
    arguments: str
    work: Work


@dataclass(frozen=True)
class ProgramFile:
    """A file that a program needs on the device.

    Args:
        name: There, beside the program's other files.
        digest: SHA-256 of the content, 64 hex digits.
        path: Here; the transport brings it from there.
    """

    name: str
    digest: str
    path: Path = field(compare=False)


@dataclass(frozen=True)
class Program:
    """Something a worker can load.

    Args:
        name: For people; it takes no part in the hash.
        source: `module:factory`, or the name of the main file.
        arguments: Canonical JSON, given to the factory.
        feeds: The sets of inputs it can be timed with.
        files: All that loading reads.
        weight_bytes: What loading it is expected to add to the worker's resident memory.
        moved_bytes: What one call of it moves without an adapter, where one of the next two is given.
        others_bytes: What the rest of its model moves between two calls. So many copies are loaded and called in turn,
            up to a bound, that the others of them move as much, or fill the processor's caches twice. 0 = one copy,
            which finds its weights in the caches.
        between_bytes: What the rest of the model whose stub this is moves between two calls. So much other memory is
            read before each call, as long as that and the stub do not fill the processor's caches twice.
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
        """How many times as much the whole model moves as this stub of it; 1 for all that is none."""
        return (self.moved_bytes + self.between_bytes) / self.moved_bytes if self.between_bytes else 1.0

    @property
    def hash(self) -> str:
        """Identifies the program on the device: 16 hex digits of SHA-256 over source, arguments, feeds and files."""
        feeds = [[feed.name, feed.arguments] for feed in self.feeds]
        files = [[file.name, file.digest] for file in self.files]
        cold = ["cold"] if self.others_bytes else []
        text = canonical_json([self.source, self.arguments, feeds, *([files] if files else []), *cold])
        return hashlib.sha256(text.encode()).hexdigest()[:16]
