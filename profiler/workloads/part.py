"""Parts of the weights of a base model that stay in a smaller model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from adaptare.core.content_hash import Json
from adaptare.profiler.workloads.shape import Site

Runs = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Part:
    """The part of a linear's weight, shape (out, in), that stays in a smaller model.

    Args:
        rows: Start and stop of each run of rows, ascending; `None` for all.
        columns: The same of its columns.
    """

    rows: Runs | None = None
    columns: Runs | None = None

    @cached_property
    def outputs(self) -> slice | list[int]:
        """Index of the rows."""
        return _index(self.rows)

    @cached_property
    def inputs(self) -> slice | list[int]:
        """Index of the columns."""
        return _index(self.columns)

    def to_json(self) -> list[Json]:
        """Runs of rows, and of columns."""
        return [self.rows, self.columns]

    @classmethod
    def from_json(cls, content: Sequence[Any]) -> "Part":
        """Inverse of `to_json`."""
        rows, columns = (runs and tuple((start, stop) for start, stop in runs) for runs in content)
        return cls(rows, columns)

    @property
    def is_empty(self) -> bool:
        """True if nothing stays of the linear."""
        return self.rows == () or self.columns == ()

    def __and__(self, other: "Part") -> "Part":
        return Part(_both(self.rows, other.rows), _both(self.columns, other.columns))

    def of(self, site: Site) -> Site:
        """The linear with its sizes in the smaller model."""
        wide_out, wide_in = (
            size if runs is None else sum(stop - start for start, stop in runs)
            for runs, size in ((self.rows, site.out_features), (self.columns, site.in_features))
        )
        return replace(site, in_features=wide_in, out_features=wide_out)


WHOLE, NOTHING = Part(), Part((), ())


def _index(runs: Runs | None) -> slice | list[int]:
    if runs is None:
        return slice(None)
    return slice(*runs[0]) if len(runs) == 1 else [number for start, stop in runs for number in range(start, stop)]


def _both(ours: Runs | None, theirs: Runs | None) -> Runs | None:
    if ours is None or theirs is None:
        return theirs if ours is None else ours
    pairs = ((max(start, other), min(stop, last)) for start, stop in ours for other, last in theirs)
    return tuple((start, stop) for start, stop in pairs if start < stop)
