from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from adaptare.core.table import Column, Section, Table
from adaptare.core.units import milliseconds, percent
from adaptare.workflows.profiling.calls import PartRow, PartsResult
from adaptare.workflows.target import spelled


@dataclass(frozen=True)
class Line:
    """One kind of block, the head, their sum, or the whole model.

    Args:
        share: Time of all its layers with cold caches, relative to the whole model.
    """

    name: str
    layers: int
    cold_s: float
    hot_s: float | None = None
    share: float | None = None


COLUMNS: Final[tuple[Column[Line], ...]] = (
    Column("part", lambda line: line.name),
    Column("layers", lambda line: str(line.layers or "")),
    Column("cold ms", lambda line: milliseconds(line.cold_s)),
    Column("hot ms", lambda line: "" if line.hot_s is None else milliseconds(line.hot_s)),
    Column("cold, of the whole", lambda line: "" if line.share is None else f"{line.share:.1%}"),
)


def sections(result: PartsResult) -> Iterator[Section]:
    """Every kind of block, the head, their sum and the whole; the error of the sum."""
    cold, hot = result.parts["cold"], result.parts["hot"]
    names = [_kind(block) if len(cold.blocks) > 1 else "block" for block in cold.blocks]
    rows = zip(
        [*names, "head", "together"],
        [*cold.blocks, cold.head, cold.together],
        [*hot.blocks, hot.head, hot.together],
        strict=True,
    )
    lines = [_line(name, own, other, result.whole_s) for name, own, other in rows]
    what = f"{result.sites} adapters, {result.mode}" if result.sites else "the base"
    device = spelled(result.device, result.quantisation, result.dtype)
    title = f"{result.model} on {device}, {result.phase} {result.length}: {what}"
    yield Table(title, COLUMNS, [*lines, Line("the whole", 0, result.whole_s)])
    for caches, parts in result.parts.items():
        over = parts.over_whole.over_one
        ends = over.ends(percent, too_few_openings=parts.together.too_few_openings)
        yield f"the sum of the {caches} parts differs from the whole by {percent(over.middle)} {ends}"


def _line(name: str, cold: PartRow, hot: PartRow, whole_s: float) -> Line:
    share = (cold.layers or 1) * cold.latency.middle / whole_s
    return Line(name, cold.layers, cold.latency.middle, hot.latency.middle, share)


def _kind(block: PartRow) -> str:
    return f"block, {len(block.ranks)} sites up to r{max(block.ranks.values())}" if block.ranks else "block, no adapter"
