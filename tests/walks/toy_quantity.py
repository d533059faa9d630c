"""A quantity of another package: bytes that a call moves, as the simulated device counts them."""

from collections.abc import Mapping, Sequence

from adaptare.core import InputError
from adaptare.devices import Worker

CALLS = 10


class BytesMoved:
    """Bytes of weights, caches and activations that one call reads or writes."""

    units = {"bytes_moved": "B"}  # noqa: RUF012 (read only)
    openings = 2
    alone = False

    def visit(self, worker: Worker, subject) -> Mapping[str, Sequence[float]]:
        """Reads the counter before and after some calls."""
        if not hasattr(worker, "moved_bytes"):
            raise InputError("the device does not count bytes; the simulated device does")
        before = worker.moved_bytes
        subject.run(worker, CALLS)
        return {"bytes_moved": [(worker.moved_bytes - before) / CALLS]}
