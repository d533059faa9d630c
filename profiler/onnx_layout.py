"""The file of weights beside a graph, laid out by who reads it.

A session that packs weights writes each of them beside its plain self, which is read once by whoever loads both, to see
that they are the same, and by no call. A worker that brings into memory what calls read should find it in one piece.
"""

import math
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from adaptare.profiler.onnx_surgery import ALIGNMENT

# How ONNX Runtime names a packed weight among the external data of a plain one: `kernel+hash|offset;length;checksum`.
PACKED = "prepacked_"


@dataclass(frozen=True)
class _Place:
    """A part of a file of weights.

    Args:
        file: Its name.
        start: Of the part, in bytes.
        size: In bytes.
        read: Whether calls read all of it: not rows of a table, nor what is there packed as well.
    """

    file: str
    start: int
    size: int
    read: bool


def read_first(graph: Path) -> None:
    """Writes the weights of a graph anew: what calls read, and then the rest.

    Args:
        graph: Its external data lie in one file beside it; where it has none, nothing is done.

    Raises:
        OSError: The file cannot be read, or there is no room for the new one.
    """
    model = onnx.load(graph, load_external_data=False)
    places = sorted(_places(model), key=lambda place: not place.read)
    if not places:
        return
    (name,) = {place.file for place in places}
    data, fresh = graph.with_name(name), graph.with_name(f"{name}.new")
    moved: dict[int, int] = {}
    with (
        data.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as old,
        memoryview(old) as weights,
        fresh.open("wb") as new,
    ):
        for place in places:
            if place.start not in moved:
                moved[place.start] = new.seek(math.ceil(new.tell() / ALIGNMENT) * ALIGNMENT)
                new.write(weights[place.start : place.start + place.size])
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "offset":
                entry.value = str(moved[int(entry.value)])
            elif entry.key.startswith(PACKED):
                kernel, *parts = entry.value.split("|")
                split = [part.split(";", 1) for part in parts]
                entry.value = "|".join([kernel, *(f"{moved[int(start)]};{rest}" for start, rest in split)])
    fresh.replace(data)
    onnx.save(model, graph)


def read_bytes(graph: Path) -> dict[str, int]:
    """Name of each file of weights -> from its start to the end of the last weight that calls read whole."""
    ends: dict[str, int] = {}
    for place in _places(onnx.load(graph, load_external_data=False)):
        if place.read:
            ends[place.file] = max(ends.get(place.file, 0), place.start + place.size)
    return ends


def _places(model: onnx.ModelProto) -> Iterator[_Place]:
    """Of all weights outside the graph, in its order."""
    uses: dict[str, set[tuple[str, int]]] = {}
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            uses.setdefault(name, set()).add((node.op_type, position))
    for tensor in model.graph.initializer:
        entries: dict[str, Any] = {entry.key: entry.value for entry in tensor.external_data}
        if not entries:
            continue
        packed = [
            part.split(";") for key, value in entries.items() if key.startswith(PACKED) for part in value.split("|")[1:]
        ]
        looked_up = uses.get(tensor.name) == {("Gather", 0)}
        own = (int(entries.get("offset", 0)), int(entries["length"]))
        yield _Place(entries["location"], *own, read=not packed and not looked_up)
        for start, size, *_ in packed:
            yield _Place(entries["location"], int(start), int(size), read=True)
