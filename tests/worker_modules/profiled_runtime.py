"""The plain runtime with a profiler that knows one operator."""

from collections.abc import Mapping, Sequence
from typing import Any

from plain_runtime import PlainRuntime


class ProfiledRuntime(PlainRuntime):
    """A plain runtime with a profiler."""

    def attribute(
        self, folder: str, source: str, arguments: Mapping[str, Any], feed: Mapping[str, Any], timed: Any
    ) -> tuple[Sequence[float], list[dict[str, list[float]]]]:
        """All time is that of Python."""
        seconds = timed(*self.load(folder, source, arguments).bind(feed))
        return seconds, [{"python": [1, each]} for each in seconds]
